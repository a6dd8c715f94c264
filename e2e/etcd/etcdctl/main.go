// Command etcdctl is etcd's command line client at the version that this
// module requires.
package main

import "go.etcd.io/etcd/etcdctl/v3/ctlv3"

func main() { ctlv3.MustStart() }
