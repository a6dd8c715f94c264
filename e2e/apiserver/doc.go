// Package apiserver starts real kube-apiservers for tests, each with an etcd,
// certificates, tokens and an audit log of its own, all of it on loopback.
//
// RBAC is on and no controller runs: what a service account may do is what the
// manifests grant, a Node is there until somebody deletes it, and a Deployment
// starts nothing. A Front is a proxy before the server to make faults with.
package apiserver
