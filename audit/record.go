package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"cube/gateway"
)

// Action is what was done.
type Action string

// The actions that are not inside a sandbox; for those see gateway.Action.
const (
	Decided    Action = "decision"
	Shadowed   Action = "shadow" // what the shadow callback would have decided, where it differs; it decides nothing
	Created    Action = "sandbox.created"
	TimeoutSet Action = "sandbox.timeout"
	Paused     Action = "sandbox.paused"
	NetworkSet Action = "sandbox.network_set"
	Resumed    Action = "sandbox.resumed"
	Ended      Action = "sandbox.ended"
	Connected  Action = "network.connection" // where a sandbox wanted to go
	Asked      Action = "network.question"   // for a name

	TemplateRequested Action = "template.requested"
	TemplateBuilt     Action = "template.built"
	TemplateFailed    Action = "template.failed" // a build of it
	TemplateChanged   Action = "template.changed"
	TemplateDeleted   Action = "template.deleted"
)

// Actions are all of them.
var Actions = []Action{
	Decided, Shadowed, Created, TimeoutSet, Paused, NetworkSet, Resumed, Ended, Connected, Asked,
	TemplateRequested, TemplateBuilt, TemplateFailed, TemplateChanged, TemplateDeleted,
	Action(gateway.ProcessStarted), Action(gateway.ProcessConnected), Action(gateway.ProcessInput), Action(gateway.ProcessSignalled),
	Action(gateway.FileRead), Action(gateway.FileWritten), Action(gateway.FileLooked), Action(gateway.FileMoved), Action(gateway.FileRemoved),
	Action(gateway.DirectoryListed), Action(gateway.DirectoryMade), Action(gateway.DirectoryWatched), Action(gateway.FileComposed),
}

// Outcome is how it ended.
type Outcome string

// The outcomes.
const (
	Done       Outcome = "done"
	Allowed    Outcome = "allowed"    // by the door
	Refused    Outcome = "refused"    // by the door, or by the agent
	Failed     Outcome = "failed"     // Status says how
	Unanswered Outcome = "unanswered" // whoever asked went away, or the sandbox ended
)

// Record is one line. What is not known is left out.
type Record struct {
	Time      time.Time `json:"time"` // UTC
	Action    Action    `json:"action"`
	Outcome   Outcome   `json:"outcome"`
	Reason    string    `json:"reason,omitempty"` // of a decision (decision.Reason), or of an end (cube.EndReason)
	RequestID string    `json:"request_id,omitempty"`
	Remote    string    `json:"remote,omitempty"` // the client's address

	// Who asked, as the door knows. Inside a sandbox nobody does: the agent asks
	// for a token, not for a name.
	Subject     string `json:"subject,omitempty"`
	Team        string `json:"team,omitempty"`
	Key         string `json:"key,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`

	// The sandbox, and to whom it belongs.
	Sandbox      string     `json:"sandbox,omitempty"`
	OwnerSubject string     `json:"owner_subject,omitempty"`
	OwnerTeam    string     `json:"owner_team,omitempty"`
	Template     string     `json:"template,omitempty"`
	Build        string     `json:"build,omitempty"` // of a template
	Deadline     *time.Time `json:"deadline,omitempty"`

	// Of a decision.
	Method    string `json:"method,omitempty"`
	Path      string `json:"path,omitempty"` // without the query
	Source    string `json:"source,omitempty"`
	LatencyUS int64  `json:"latency_us,omitempty"`

	// Of what is done inside.
	User    string   `json:"user,omitempty"` // the account there
	Command []string `json:"command,omitempty"`
	Paths   []string `json:"paths,omitempty"`
	Process string   `json:"process,omitempty"`
	Signal  string   `json:"signal,omitempty"`

	// Of where a sandbox wanted to go.
	Name     string `json:"name,omitempty"`     // what it said where that is
	Address  string `json:"address,omitempty"`  // and port
	Protocol string `json:"protocol,omitempty"` // as far as it is known
	Rule     string `json:"rule,omitempty"`     // that decided
	Up       int64  `json:"bytes_up,omitempty"`
	Down     int64  `json:"bytes_down,omitempty"`

	Status int `json:"status,omitempty"` // of the answer, or of the door's
	// Cut says that something was too long, and ends in "…".
	Cut bool `json:"cut,omitempty"`
	// Incomplete says that the request could not be read to its end, by the
	// server at least: what it did may not stand here.
	Incomplete bool `json:"incomplete,omitempty"`
}

// The bounds of what clients write, in bytes: a text, an entry of a list, and a
// list, which has at most maxEntries.
const (
	maxText    = 1 << 10
	maxEntry   = 8 << 10
	maxList    = 16 << 10
	maxEntries = 256
)

// bound cuts what is too long.
func (r *Record) bound() {
	for _, text := range []*string{
		&r.Remote, &r.Subject, &r.Team, &r.Key, &r.Fingerprint, &r.OwnerSubject, &r.OwnerTeam, &r.Template,
		&r.Method, &r.Path, &r.User, &r.Process, &r.Signal, &r.Name, &r.Rule,
	} {
		*text = r.cut(*text, maxText)
	}
	r.Command, r.Paths = r.cutList(r.Command), r.cutList(r.Paths)
}

const mark = "…"

func (r *Record) cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	r.Cut = true
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + mark
}

func (r *Record) cutList(list []string) []string {
	var kept []string
	left := maxList
	for i, entry := range list {
		if i == maxEntries || left == 0 {
			r.Cut = true
			return append(kept, mark)
		}
		entry = r.cut(entry, min(maxEntry, left))
		left -= min(len(entry), left)
		kept = append(kept, entry)
	}
	return kept
}

// line is the record as it is written.
func (r Record) line() []byte {
	r.bound()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // it is not for pages, and "a > b" is easier to read
	if err := encoder.Encode(r); err != nil {
		panic(fmt.Sprintf("audit: a record that is no JSON: %v", err)) // a time in the year 10000
	}
	return visible(b.Bytes())
}

// visible writes what JSON lets stand and a terminal would obey, such as U+009B
// or a change of the writing's direction, as JSON's escapes. The line's meaning
// stays the same.
func visible(line []byte) []byte {
	isHidden := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	if !bytes.ContainsFunc(line, isHidden) {
		return line
	}
	var out []byte
	for _, r := range string(line) {
		switch {
		case !isHidden(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}
