package adopt

import (
	"fmt"

	"github.com/holdfast-storage/holdfast/state"
)

// Phase is how far a VolumeAttachment is. The set is closed.
type Phase string

// The phases.
const (
	// Attached: its status says so, and nobody is deleting it.
	Attached Phase = "attached"
	// Attaching: its status does not say attached yet.
	Attaching Phase = "attaching"
	// Detaching: it is being deleted. The volume may still be attached.
	Detaching Phase = "detaching"
)

// VolumeAttachment is one of Kubernetes, with what its PersistentVolume says of
// the volume.
type VolumeAttachment struct {
	Name             string `json:"volumeAttachment,omitempty"`
	UID              string `json:"-"`
	PersistentVolume string `json:"persistentVolume,omitempty"`
	Node             string `json:"node"`
	Phase            Phase  `json:"phase,omitempty"`
	// Volume is the CSI volume handle; empty where Unknown says why.
	Volume string `json:"volume,omitempty"`
	// Mode is how the volume is held by what its access modes say; empty where
	// there are none.
	Mode state.Mode `json:"mode,omitempty"`
	// Unknown is why it is not known which volume of the ledger it is about.
	Unknown string `json:"-"`

	inline bool
}

// resolve fills in what the PersistentVolume says; pv is nil if there is none.
func (a *VolumeAttachment) resolve(attacher string, pv *persistentVolume, mode state.Mode) {
	switch {
	case a.inline:
		a.Unknown = "it is of a volume in a pod's spec (inlineVolumeSpec), not of a PersistentVolume"
	case a.PersistentVolume == "":
		a.Unknown = "it names no PersistentVolume"
	case pv == nil:
		a.Unknown = fmt.Sprintf("its PersistentVolume %q is not there", a.PersistentVolume)
	case !pv.csi || pv.handle == "":
		a.Unknown = fmt.Sprintf("its PersistentVolume %q has no CSI volume handle", a.PersistentVolume)
	case pv.driver != attacher:
		a.Unknown = fmt.Sprintf("its PersistentVolume %q is of driver %q", a.PersistentVolume, pv.driver)
	default:
		a.accept(pv, mode)
	}
}

// accept takes what the ledger takes too: a name that it refuses can have no hold.
func (a *VolumeAttachment) accept(pv *persistentVolume, mode state.Mode) {
	if err := state.ValidateVolume(pv.handle); err != nil {
		a.Unknown = err.Error()
		return
	}
	if err := state.ValidateNode(a.Node); err != nil {
		a.Unknown = err.Error()
		return
	}
	a.Volume, a.Mode = pv.handle, pv.mode
	if mode != "" {
		a.Mode = mode
	}
}

// place names the VolumeAttachment's node, for a text.
func (a *VolumeAttachment) place(cluster string) state.Place {
	return state.Place{Cluster: cluster, Node: a.Node}
}
