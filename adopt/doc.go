// Package adopt brings what Kubernetes says is attached together with what the
// ledger says is held: Import puts a running cluster's VolumeAttachments into
// the ledger, and Audit compares the two, both ways.
//
// A VolumeAttachment counts once its status says attached and nobody is
// deleting it. Until then, and from then on, the volume is in motion: the
// driver may or may not hold it, and neither is wrong.
//
// Between the API server and etcd there is no order, so one look proves
// nothing. Audit looks twice: at the VolumeAttachments, the holds, and after a
// while at the VolumeAttachments and the holds again. A difference is what both
// looks have seen of the very same objects. A VolumeAttachment with one UID, attached
// both before and after a read of the holds that has none for it, was attached
// without a hold; a hold with one create revision, there both before and after
// a list that has no VolumeAttachment for it, was held without one. A driver
// that attaches in the ledger before it answers, and detaches in it before it
// answers, shows neither.
//
// Nothing is guessed. A VolumeAttachment whose volume handle is not known is
// told of and left alone, and so are the holds of its node that it might
// explain.
package adopt
