package bench

// Goals are the figures of a summary, what each is to reach, and what it must not
// be worse than. docs/performance.md tells how each comes about.
var Goals = map[string]struct {
	Unit, About string
	Goal
}{
	"attach_vs_put":                    {"ratio", "attaches a second to raw puts a second, most callers", Goal{1.2, 0.8, true}},
	"detach_vs_put":                    {"ratio", "detaches a second to raw puts a second, most callers", Goal{1.2, 0.8, true}},
	"attach_p50_vs_put_p50_one_caller": {"ratio", "median latency of an attach to that of a raw put, one caller", Goal{1.25, 1.5, false}},
	"detach_vs_lease_each":             {"ratio", "detaches a second to those that grant a lease each, most callers", Goal{3, 2.5, true}},
	"attach_vs_volumeattachment":       {"ratio", "attaches a second to VolumeAttachments created a second through a kube-apiserver", Goal{12, 8, true}},
	"expiry_late_p99_s":                {"s", "how late a grace ends, of those that end together: the 99th percentile", Goal{2.5, 4, false}},
	"expiry_early":                     {"count", "graces that ended early", Goal{0, 0, false}},
	"coldstart_vs_range":               {"ratio", "process start to ready, to a bare paged range of the same keys", Goal{1.6, 2.5, false}},
	"rss_bytes_per_attachment":         {"B", "resident memory of a controller for each attachment", Goal{400, 700, false}},
	"orphan_latency_p99_ms":            {"ms", "a Node deleted to its last orphan removed: the 99th percentile", Goal{50, 150, false}},
	"storm_vs_batch_delete":            {"ratio", "orphans removed a second, many nodes at once, to bare guarded deletes in batches", Goal{0.4, 0.15, true}},
	"storm_vs_polling":                 {"ratio", "the same to a poller that lists, gets each node and deletes", Goal{1, 0.15, true}},
	"resync_ms":                        {"ms", "a full join of all attachments and nodes", Goal{250, 600, false}},
}
