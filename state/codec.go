package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// What stands in etcd: JSON, readable with etcdctl get. The key's own parts
// are not repeated in the value. Durations are whole milliseconds.

type holdValue struct {
	NodeUID string    `json:"nodeUID,omitempty"`
	Epoch   uint16    `json:"epoch"`
	Since   time.Time `json:"since"`
	By      string    `json:"by,omitempty"`
}

type attachmentValue struct {
	Mode    Mode      `json:"mode"`
	NodeUID string    `json:"nodeUID,omitempty"`
	Epoch   uint16    `json:"epoch"`
	Since   time.Time `json:"since"`
	// Token is absent where hold and attachment were put together: then the
	// hold's create revision is the attachment's own.
	Token Token `json:"token,omitempty"`
}

type detachmentValue struct {
	At      time.Time `json:"at"`
	GraceMS int64     `json:"graceMs"`
	Reason  string    `json:"reason"`
	By      string    `json:"by,omitempty"`
	Token   Token     `json:"token,omitempty"`
}

type migrationValue struct {
	ID          string    `json:"id"`
	Source      Place     `json:"source"`
	Target      Place     `json:"target"`
	SourceToken Token     `json:"sourceToken"`
	Epoch       uint16    `json:"epoch"`
	Since       time.Time `json:"since"`
	Deadline    time.Time `json:"deadline"`
	By          string    `json:"by,omitempty"`
}

type departureValue struct {
	Reason DepartureReason `json:"reason"`
	UID    string          `json:"uid,omitempty"`
	Since  time.Time       `json:"since"`
	By     string          `json:"by,omitempty"`
}

type quarantineValue struct {
	Until time.Time `json:"until"`
}

type pauseValue struct {
	By    string    `json:"by"`
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
}

type ledgerValue struct {
	UUID    string    `json:"uuid"`
	Format  int       `json:"format"`
	Driver  string    `json:"driver"`
	Epoch   uint16    `json:"epoch"`
	Created time.Time `json:"created"`
	Frozen  *Freeze   `json:"frozen"`
	// Formerly only grows, so a rewrite may omit it where it is empty.
	Formerly []string `json:"formerly,omitempty"`
}

type freezeValue struct {
	By    string    `json:"by"`
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
	Known Known     `json:"known"`
	Found Known     `json:"found"`
}

type witnessValue struct {
	Nonces []Nonce   `json:"nonces"`
	By     string    `json:"by"`
	Since  time.Time `json:"since"`
}

type clusterValue struct {
	UID   string    `json:"uid"`
	Since time.Time `json:"since"`
	By    string    `json:"by"`
}

type entryValue struct {
	At       time.Time `json:"at"`
	Action   Action    `json:"action"`
	Volume   string    `json:"volume,omitempty"`
	Node     string    `json:"node,omitempty"`
	Mode     Mode      `json:"mode,omitempty"`
	Token    Token     `json:"token,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	By       string    `json:"by,omitempty"`
	Why      string    `json:"why,omitempty"`
	Evidence *Evidence `json:"evidence,omitempty"`
	// Orphans are those that ended together, in place of one volume, mode and token.
	Orphans []orphanValue `json:"orphans,omitempty"`
}

type orphanValue struct {
	Volume             string `json:"volume"`
	Mode               Mode   `json:"mode"`
	Token              Token  `json:"token"`
	AttachmentRevision int64  `json:"attachmentRevision"`
}

// encode cannot fail for the types above: they hold nothing that JSON lacks.
func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("state: encoding %T: %v", v, err))
	}
	return string(b)
}

// rewrite encodes v and keeps the fields of the record's present value that
// this version does not know. The fields it knows must all be in v's JSON, so
// the types that are rewritten omit none.
func rewrite(raw []byte, v any) (string, error) {
	merged := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &merged); err != nil {
		return "", err
	}
	if err := json.Unmarshal([]byte(encode(v)), &merged); err != nil {
		return "", err
	}
	return encode(merged), nil
}

// maxRecordBytes bounds what is read of a record. The largest that is written has
// five texts of maxTextBytes, which JSON may make six times as long. Another
// cluster can put anything under the kinds that clusters share.
const maxRecordBytes = 64 << 10

func decodeValue(kv *mvccpb.KeyValue, v any) error {
	if len(kv.Value) > maxRecordBytes {
		return broken(kv, fmt.Errorf("it has %d bytes, more than %d", len(kv.Value), maxRecordBytes))
	}
	if err := json.Unmarshal(kv.Value, v); err != nil {
		return broken(kv, err)
	}
	return nil
}

// broken says of a record that it does not decode. What is wrong with it may
// quote the record, so it is said in few words and without control characters.
func broken(kv *mvccpb.KeyValue, err error) error {
	return fmt.Errorf("record %q does not decode: %s", excerpt(string(kv.Key)), printable(err.Error()))
}

// printable is a text of somebody else's for people to read: not long, and
// without control characters.
func printable(s string) string {
	return excerpt(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s))
}

func toHold(k key, kv *mvccpb.KeyValue) Hold {
	var v holdValue
	err := decodeValue(kv, &v)
	return Hold{
		Volume: k.volume, Cluster: k.cluster, Node: k.node, Mode: k.mode,
		NodeUID: v.NodeUID, Since: v.Since, By: v.By,
		Token: NewToken(v.Epoch, kv.CreateRevision), Revision: kv.CreateRevision, Broken: err,
	}
}

func toAttachment(k key, kv *mvccpb.KeyValue) Attachment {
	var v attachmentValue
	var err error
	if !plainAttachment(kv.Value, &v) {
		err = decodeValue(kv, &v)
	}
	if err == nil && validateMode(v.Mode) != nil {
		err, v.Mode = broken(kv, fmt.Errorf("mode %q", v.Mode)), ""
	}
	if v.Token == 0 {
		v.Token = NewToken(v.Epoch, kv.CreateRevision)
	}
	return Attachment{
		Volume: k.volume, Cluster: k.cluster, Node: k.node,
		Mode: v.Mode, NodeUID: v.NodeUID, Since: v.Since, Token: v.Token,
		Lease: LeaseID(kv.Lease), CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Broken: err,
	}
}

func toDetachment(k key, kv *mvccpb.KeyValue) Detachment {
	var v detachmentValue
	err := decodeValue(kv, &v)
	return Detachment{
		Volume: k.volume, Cluster: k.cluster, Node: k.node, Mode: k.mode,
		Token: v.Token, At: v.At, Grace: time.Duration(v.GraceMS) * time.Millisecond, Reason: v.Reason, By: v.By,
		Lease: LeaseID(kv.Lease), ModRevision: kv.ModRevision, Broken: err,
	}
}

func toMigration(k key, kv *mvccpb.KeyValue) Migration {
	var v migrationValue
	err := decodeValue(kv, &v)
	if places := errors.Join(v.Source.validate(), v.Target.validate()); err == nil && places != nil {
		// Whoever takes them for places builds keys of them.
		err, v.Source, v.Target = broken(kv, places), Place{}, Place{}
	}
	return Migration{
		Volume: k.volume, Source: v.Source, Target: v.Target,
		SourceToken: v.SourceToken, TargetToken: NewToken(v.Epoch, kv.CreateRevision),
		Since: v.Since, Deadline: v.Deadline, By: v.By, Lease: LeaseID(kv.Lease),
		Revision: kv.CreateRevision, Broken: err, id: v.ID, modRevision: kv.ModRevision,
	}
}

func toDeparture(k key, kv *mvccpb.KeyValue) Departure {
	var v departureValue
	err := decodeValue(kv, &v)
	return Departure{
		Cluster: k.cluster, Node: k.node, Reason: v.Reason, UID: v.UID, Since: v.Since, By: v.By,
		ModRevision: kv.ModRevision, Broken: err,
	}
}

func toQuarantine(k key, kv *mvccpb.KeyValue) Quarantine {
	var v quarantineValue
	err := decodeValue(kv, &v)
	return Quarantine{
		Cluster: k.cluster, Node: k.node, Until: v.Until,
		Lease: LeaseID(kv.Lease), ModRevision: kv.ModRevision, Broken: err,
	}
}

func toPause(k key, kv *mvccpb.KeyValue) Pause {
	var v pauseValue
	err := decodeValue(kv, &v)
	return Pause{
		Cluster: k.cluster, By: v.By, Why: v.Why, Since: v.Since, Until: v.Until,
		Lease: LeaseID(kv.Lease), ModRevision: kv.ModRevision, Broken: err,
	}
}

func toLedger(kv *mvccpb.KeyValue) LedgerRecord {
	var v ledgerValue
	err := decodeValue(kv, &v)
	return LedgerRecord{
		UUID: v.UUID, Format: v.Format, Driver: v.Driver, Epoch: v.Epoch, Created: v.Created, Frozen: v.Frozen,
		Formerly: v.Formerly, ModRevision: kv.ModRevision, Broken: err, raw: kv.Value,
	}
}

func toCluster(k key, kv *mvccpb.KeyValue) ClusterRecord {
	var v clusterValue
	err := decodeValue(kv, &v)
	return ClusterRecord{
		Cluster: k.cluster, UID: v.UID, Since: v.Since, By: v.By,
		ModRevision: kv.ModRevision, Broken: err, raw: kv.Value,
	}
}

func toFreeze(k key, kv *mvccpb.KeyValue) RestoreFreeze {
	var v freezeValue
	err := decodeValue(kv, &v)
	return RestoreFreeze{
		Cluster: clusterOf(k), By: printable(v.By), Why: printable(v.Why), Since: v.Since, Known: v.Known, Found: v.Found,
		ModRevision: kv.ModRevision, Broken: err,
	}
}

func toWitness(k key, kv *mvccpb.KeyValue) Witness {
	var v witnessValue
	err := decodeValue(kv, &v)
	return Witness{Cluster: k.cluster, Nonces: v.Nonces, By: v.By, Since: v.Since, ModRevision: kv.ModRevision, Broken: err}
}

// clusterOf is empty where the record is of no cluster.
func clusterOf(k key) string {
	if k.cluster == ledgerCluster {
		return ""
	}
	return k.cluster
}

// toEntries gives one entry for each orphan that ended together with others.
func toEntries(k key, kv *mvccpb.KeyValue) []Entry {
	var v entryValue
	err := decodeValue(kv, &v)
	e := Entry{
		ID: k.id, Cluster: clusterOf(k), At: v.At, Action: v.Action, Volume: v.Volume, Node: v.Node, Mode: v.Mode,
		Token: v.Token, Reason: v.Reason, By: v.By, Why: v.Why, Evidence: v.Evidence,
		Lease: LeaseID(kv.Lease), ModRevision: kv.ModRevision, Broken: err,
	}
	if err != nil || len(v.Orphans) == 0 {
		return []Entry{e}
	}
	out := make([]Entry, len(v.Orphans))
	for i, o := range v.Orphans {
		out[i] = e
		out[i].Volume, out[i].Mode, out[i].Token = o.Volume, o.Mode, o.Token
		if e.Evidence != nil {
			own := *e.Evidence
			own.AttachmentRevision, out[i].Evidence = o.AttachmentRevision, &own
		}
	}
	return out
}
