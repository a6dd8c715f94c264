package state

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The compares that transactions are made of, by what they say.

// emptyRange: there is no key in [begin, end).
func emptyRange(begin, end string) *pb.Compare { return ranged(created(begin, 0), end) }

// exists: the key is there.
func exists(k string) *pb.Compare { return createRevision(k, pb.Compare_GREATER, 0) }

// absent: the key is not there.
func absent(k string) *pb.Compare { return created(k, 0) }

// created: the key is the one that was created at revision.
func created(k string, revision int64) *pb.Compare {
	return createRevision(k, pb.Compare_EQUAL, revision)
}

// unchanged: the key was not put since revision. 0: it is not there.
func unchanged(k string, revision int64) *pb.Compare {
	return modRevision(k, pb.Compare_EQUAL, revision)
}

// notAfter: the key is not there, or was last put at revision r or before.
func notAfter(k string, r int64) *pb.Compare { return modRevision(k, pb.Compare_LESS, r+1) }

// notBefore: the key is there, and was last put at revision or after.
func notBefore(k string, revision int64) *pb.Compare {
	return modRevision(k, pb.Compare_GREATER, revision-1)
}

// noneAfter: no key in [begin, end) was put after revision r.
func noneAfter(begin, end string, r int64) *pb.Compare { return ranged(notAfter(begin, r), end) }

// createdBy: the key is there, and was created at revision r or before.
func createdBy(k string, r int64) []*pb.Compare {
	return []*pb.Compare{exists(k), createRevision(k, pb.Compare_LESS, r+1)}
}

// noneBefore: no key in [begin, end) was created before revision.
func noneBefore(begin, end string, revision int64) *pb.Compare {
	return ranged(createRevision(begin, pb.Compare_GREATER, revision-1), end)
}

func ranged(c *pb.Compare, end string) *pb.Compare {
	c.RangeEnd = []byte(end)
	return c
}

func createRevision(k string, result pb.Compare_CompareResult, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: []byte(k), Target: pb.Compare_CREATE, Result: result,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision},
	}
}

func modRevision(k string, result pb.Compare_CompareResult, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: []byte(k), Target: pb.Compare_MOD, Result: result,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
	}
}
