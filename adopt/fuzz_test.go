package adopt

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/holdfast-storage/holdfast/state"
)

// Whatever an API server says, a VolumeAttachment is of a volume and a node that
// the ledger takes, or says in few words why it is not known which.
func FuzzVolumeAttachment(f *testing.F) {
	const pv = `{"spec":{"accessModes":["ReadWriteOnce"],"csi":{"driver":"csi.example.com","volumeHandle":"vol-1"}}}`
	for _, va := range []string{
		`{"metadata":{"name":"va"},"spec":{"attacher":"csi.example.com","nodeName":"node-1","source":{"persistentVolumeName":"pv"}},"status":{"attached":true}}`,
		`{"spec":{"nodeName":"../../x","source":{"persistentVolumeName":"pv"}}}`, `{"spec":{"source":{"inlineVolumeSpec":{}}}}`, `{}`, `null`,
	} {
		f.Add([]byte(va), []byte(pv))
		f.Add([]byte(va), []byte(`{"spec":{"accessModes":["ReadOnlyMany","ReadWriteOnce"],"csi":{"driver":"other","volumeHandle":"\u0000"}}}`))
		f.Add([]byte(va), []byte(`{"spec":{"csi":{"driver":"csi.example.com","volumeHandle":"../../x\u001b[31m"}}}`))
	}
	f.Fuzz(func(t *testing.T, va, pv []byte) {
		var object storagev1.VolumeAttachment
		var volume corev1.PersistentVolume
		if json.Unmarshal(va, &object) != nil || json.Unmarshal(pv, &volume) != nil {
			return
		}
		a := fromKubernetes(&object)
		slim := &persistentVolume{mode: modeOf(volume.Spec.AccessModes)}
		if csi := volume.Spec.CSI; csi != nil {
			slim.csi, slim.driver, slim.handle = true, csi.Driver, csi.VolumeHandle
		}
		a.resolve("csi.example.com", slim, "")
		switch {
		case (a.Volume == "") == (a.Unknown == ""):
			t.Errorf("of volume %q, and unknown because %q", a.Volume, a.Unknown)
		case a.Volume != "" && (state.ValidateVolume(a.Volume) != nil || state.ValidateNode(a.Node) != nil):
			t.Errorf("volume %q on node %q", a.Volume, a.Node)
		case a.Volume != "" && a.Volume != slim.handle:
			t.Errorf("volume %q of handle %q", a.Volume, slim.handle)
		case len(a.Unknown) > 8<<10+8*len(a.PersistentVolume)+8*len(slim.driver):
			t.Errorf("a reason of %d bytes", len(a.Unknown))
		}
		if a.Phase != Attached && a.Phase != Attaching && a.Phase != Detaching {
			t.Errorf("phase %q", a.Phase)
		}
	})
}
