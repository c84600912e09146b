package audit

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"cube"
	"cube/auth/decision"
	"cube/build"
	"cube/gateway"
	"cube/internal/requestid"
	"cube/lifecycle"
	"cube/network/gate"
)

// Decision records what the door did with a request, or what its shadow would
// have done.
func (l *Log) Decision(o decision.Outcome) {
	r := Record{
		Time: o.Time.UTC(), Action: Decided, Outcome: Refused, Reason: string(o.Reason), RequestID: o.RequestID, Remote: o.Remote,
		Method: o.Method, Path: o.Path, Source: string(o.Source), LatencyUS: o.Latency.Microseconds(), Status: o.Status,
	}
	if o.Allowed {
		r.Outcome = Allowed
	}
	if o.Source == decision.FromShadow {
		r.Action = Shadowed
	}
	r.askedBy(o.Identity)
	r.Fingerprint = o.Fingerprint
	l.write(r)
}

// Lifecycle records what was done to a sandbox; ctx is of the request that did
// it, if one did. It is made to be lifecycle's Config.Observe.
func (l *Log) Lifecycle(ctx context.Context, e lifecycle.Event) {
	r := Record{
		Time: e.At, Outcome: Done, Reason: string(e.Reason), RequestID: requestid.From(ctx), Remote: remoteOf(ctx),
		Sandbox: string(e.Sandbox), OwnerSubject: e.Owner.Subject, OwnerTeam: e.Owner.Team, Template: string(e.Template),
	}
	r.askedBy(cube.IdentityFrom(ctx))
	switch e.Kind {
	case lifecycle.EventCreated:
		r.Action, r.Deadline = Created, &e.Deadline
	case lifecycle.EventTimeout:
		r.Action, r.Deadline = TimeoutSet, &e.Deadline
	case lifecycle.EventNetwork:
		r.Action = NetworkSet
	case lifecycle.EventPaused:
		r.Action = Paused
	case lifecycle.EventResumed:
		r.Action, r.Deadline = Resumed, &e.Deadline
	case lifecycle.EventEnded:
		r.Action = Ended
	}
	l.write(r)
}

// Network records where a sandbox of an owner's wanted to go, and whether it could;
// of questions for names those alone that were refused. It is made to be told by
// gate's Config.Observe.
func (l *Log) Network(e gate.Event, owner cube.Owner) {
	if e.Kind == gate.KindDNS && e.Allowed {
		return
	}
	r := Record{
		Time: e.Time, Action: Connected, Outcome: Refused, Sandbox: string(e.Sandbox), OwnerSubject: owner.Subject, OwnerTeam: owner.Team,
		Name: e.Name, Rule: e.Rule, Up: e.Up, Down: e.Down,
	}
	if r.Protocol = string(e.Kind); e.Kind == gate.KindDNS {
		r.Action, r.Protocol = Asked, ""
	}
	if e.Address.IsValid() {
		r.Address = netip.AddrPortFrom(e.Address, e.Port).String()
	}
	switch {
	case e.Ended:
		r.Outcome = Done
	case e.Allowed:
		r.Outcome = Allowed
	}
	l.write(r)
}

// templateActions are what is done to templates.
var templateActions = map[build.EventKind]Action{
	build.EventRequested: TemplateRequested, build.EventBuilt: TemplateBuilt, build.EventFailed: TemplateFailed,
	build.EventChanged: TemplateChanged, build.EventDeleted: TemplateDeleted,
}

// Template records what was done to a template; ctx is of the request that did it,
// if one did. It is made to be build's ServiceConfig.Observe.
func (l *Log) Template(ctx context.Context, e build.Event) {
	r := Record{
		Time: e.At, Action: templateActions[e.Kind], Outcome: Done, RequestID: requestid.From(ctx), Remote: remoteOf(ctx),
		OwnerSubject: e.Owner.Subject, OwnerTeam: e.Owner.Team, Template: string(e.Template), Build: string(e.Build),
	}
	if e.Kind == build.EventFailed {
		r.Outcome = Failed
	}
	r.askedBy(cube.IdentityFrom(ctx))
	l.write(r)
}

// Inside records what was done in a sandbox through the server. It is made to be
// gateway's Config.Observe.
func (l *Log) Inside(o gateway.Operation) {
	r := Record{
		Time: o.Time, Action: Action(o.Action), Outcome: Done, RequestID: o.RequestID, Remote: o.Remote,
		Sandbox: string(o.Sandbox), OwnerSubject: o.Owner.Subject, OwnerTeam: o.Owner.Team,
		User: o.User, Command: o.Command, Paths: o.Paths, Process: o.Process, Signal: o.Signal,
		Status: o.Status, Incomplete: o.Incomplete,
	}
	switch {
	case o.Status == 0:
		r.Outcome = Unanswered
	case o.Status == http.StatusUnauthorized, o.Status == http.StatusForbidden:
		r.Outcome = Refused
	case o.Status >= http.StatusBadRequest:
		r.Outcome = Failed
	}
	l.write(r)
}

func (r *Record) askedBy(id cube.Identity) {
	r.Subject, r.Team, r.Key, r.Fingerprint = id.Subject, id.Team, id.Key, id.Fingerprint
}

type remoteKey struct{}

// Middleware remembers where a request comes from, for the record of what it
// does to a sandbox.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remote, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			remote = r.RemoteAddr
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), remoteKey{}, remote)))
	})
}

func remoteOf(ctx context.Context) string {
	remote, _ := ctx.Value(remoteKey{}).(string)
	return remote
}
