package state

import (
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The compares that transactions are made of, by what they say.

// emptyRange: there is no key in [begin, end).
func emptyRange(begin, end string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(begin), "=", 0).WithRange(end)
}

// exists: the key is there.
func exists(k string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(k), ">", 0) }

// absent: the key is not there.
func absent(k string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(k), "=", 0) }

// created: the key is the one that was created at revision.
func created(k string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(k), "=", revision)
}

// unchanged: the key was not put since revision. 0: it is not there.
func unchanged(k string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(k), "=", revision)
}

// notAfter: the key is not there, or was last put at revision r or before.
func notAfter(k string, r int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(k), "<", r+1)
}

// noneAfter: no key in [begin, end) was put after revision r.
func noneAfter(begin, end string, r int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(begin), "<", r+1).WithRange(end)
}

// createdBy: the key is there, and was created at revision r or before.
func createdBy(k string, r int64) []clientv3.Cmp {
	return []clientv3.Cmp{exists(k), clientv3.Compare(clientv3.CreateRevision(k), "<", r+1)}
}

// noneBefore: no key in [begin, end) was created before revision.
func noneBefore(begin, end string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(begin), ">", revision-1).WithRange(end)
}
