// Package local starts an etcd of one or three members for a benchmark, each a
// process of its own, as in earnest: what a member computes and keeps is no part
// of what the client's process does.
//
// A member runs the same program anew, which has to call ServeMember first thing
// in main. It ends with the process that started it, however that ends.
package local
