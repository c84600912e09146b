package gateway

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strings"

	"cube"
	"cube/internal/httperror"
)

// answer is the body of an error of the gateway, by E2B's names.
type answer struct {
	SandboxID string `json:"sandboxId"`
	Message   string `json:"message"`
	Port      uint16 `json:"port,omitempty"`
	Code      int    `json:"code"`

	title string // of the page for a person
}

// E2B's SDKs and users know these sentences.
const (
	messageNotFound   = "The sandbox was not found"
	messagePortClosed = "The sandbox is running but port is not open"
	messageNoToken    = "Sandbox is secured with traffic access token. Token header 'e2b-traffic-access-token' is missing"
	messageBadToken   = "Sandbox is secured with traffic access token. Provided token in header 'e2b-traffic-access-token' is invalid"
	messageInternal   = "This path of the agent is reserved for the E2B control plane: nothing outside reaches it"
	messageLocked     = "The sandbox is paused and wakes for who has its token alone: send its envdAccessToken as the header X-Access-Token"
	messageBusy       = "The sandbox is changing its state: try again in a moment"
	messageAsleep     = "The sandbox is paused and could not be resumed: try again, or connect to it to see why"
	messageBroken     = "The sandbox is running but the server on the port broke off the request"
)

func writeNotFound(w http.ResponseWriter, r *http.Request, t target) {
	write(w, r, answer{SandboxID: string(t.id), Message: messageNotFound, Code: http.StatusBadGateway, title: "Sandbox Not Found"})
}

func writePortClosed(w http.ResponseWriter, r *http.Request, t target) {
	write(w, r, answer{SandboxID: string(t.id), Message: messagePortClosed, Port: t.port, Code: http.StatusBadGateway, title: "Closed Port"})
}

func writePrivate(w http.ResponseWriter, r *http.Request, t target) {
	if t.port == cube.AgentPort { // it is paused: a running one's agent decides itself
		write(w, r, answer{SandboxID: string(t.id), Message: messageLocked, Code: http.StatusForbidden, title: "Missing Access Token"})
		return
	}
	a := answer{SandboxID: string(t.id), Message: messageBadToken, Code: http.StatusForbidden, title: "Invalid Traffic Access Token"}
	if len(r.Header.Values(trafficHeader)) == 0 {
		a.Message, a.title = messageNoToken, "Missing Traffic Access Token"
	}
	write(w, r, a)
}

func writeBroken(w http.ResponseWriter, r *http.Request, t target) {
	write(w, r, answer{SandboxID: string(t.id), Message: messageBroken, Port: t.port, Code: http.StatusBadGateway, title: "Broken Answer"})
}

// writeBadTarget answers a request that names no sandbox: 400, or for an id that
// is none of ours the same as for one that is not there.
func writeBadTarget(w http.ResponseWriter, r *http.Request, t target, err error) {
	if cube.KindOf(err) == cube.NotFound {
		id := string(t.id)
		write(w, r, answer{SandboxID: id[:min(len(id), 64)], Message: messageNotFound, Code: http.StatusBadGateway, title: "Sandbox Not Found"})
		return
	}
	httperror.Write(w, cube.Errorf(cube.Invalid, "The request names no sandbox: %v", err))
}

// write answers with JSON, or with a page where a person looks at it.
func write(w http.ResponseWriter, r *http.Request, a answer) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Access-Control-Allow-Origin", "*") // else a page sees no status
	h.Set("X-Content-Type-Options", "nosniff")
	if isBrowser(r) {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		w.WriteHeader(a.Code)
		_, _ = fmt.Fprintf(w, page, html.EscapeString(a.title), html.EscapeString(a.Message), html.EscapeString(advice(a)))
		return
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(a.Code)
	_ = json.NewEncoder(w).Encode(a) // a client that went away is no error of ours
}

// isBrowser tells a person's browser from a program. One that asks for something
// else than a page is a program too: it is the page's.
func isBrowser(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(r.Header.Get("User-Agent"), "Mozilla/") && (accept == "" || strings.Contains(accept, "text/html"))
}

// advice is what a person can do.
func advice(a answer) string {
	switch a.Code {
	case http.StatusForbidden:
		return fmt.Sprintf("The owner of the sandbox %s has the token; a browser cannot send it by itself.", a.SandboxID)
	case http.StatusConflict, http.StatusTooManyRequests:
		return "Load this page again in a moment."
	}
	switch {
	case a.Message == messageAsleep:
		return fmt.Sprintf("Nothing of the sandbox %s is lost: load this page again in a moment, or tell its owner.", a.SandboxID)
	case a.Port == 0:
		return fmt.Sprintf("The sandbox %s has ended, or never was: its deadline may have passed.", a.SandboxID)
	case a.Message == messageBroken:
		return fmt.Sprintf("Look at the server on port %d in the sandbox %s.", a.Port, a.SandboxID)
	}
	return fmt.Sprintf("There is no service running on port %d in the sandbox %s: start one, and load this page again.", a.Port, a.SandboxID)
}

// page begins and ends as E2B's does: there are programs that look for it.
const page = `<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>%s</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em;color:#222}
h1{font-size:1.3em}@media(prefers-color-scheme:dark){body{background:#1a1a1a;color:#ddd}}</style>
<h1>%s</h1><p>%s</p></html>`
