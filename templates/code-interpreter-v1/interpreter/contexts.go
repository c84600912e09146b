package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

var errNoContext = errors.New("not found")

// contexts are all that there are, in the order in which they were made.
type contexts struct {
	workdir string
	agent   string

	mu       sync.Mutex // guards what follows
	all      []*interpreter
	defaults map[string]*interpreter // by language: for code that names no context
}

func newContexts(workdir, agent string) *contexts {
	return &contexts{workdir: workdir, agent: agent, defaults: map[string]*interpreter{}}
}

// info is a context as the protocol has it.
type info struct {
	ID       string `json:"id"`
	Language string `json:"language"`
	Cwd      string `json:"cwd"`
}

func (in *interpreter) info() info { return info{in.id, in.language, in.cwd} }

func (c *contexts) list() []info {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []info{}
	for _, in := range c.all {
		list = append(list, in.info())
	}
	return list
}

// create makes a context. What is left out is python, and the default directory.
func (c *contexts) create(language, cwd string) (*interpreter, error) {
	in := &interpreter{id: newID(), language: normalLanguage(language), cwd: cmp.Or(cwd, c.workdir), turn: make(chan struct{}, 1)}
	if err := in.start(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, in)
	return in, nil
}

// find returns the context that code names, or the default one of its language.
func (c *contexts) find(id, language string) (*interpreter, error) {
	if id == "" {
		return c.byLanguage(language)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, in := range c.all {
		if in.id == id {
			return in, nil
		}
	}
	return nil, fmt.Errorf("Context %.64s %w", id, errNoContext)
}

// byLanguage returns the default context of a language, and makes it if need be.
func (c *contexts) byLanguage(language string) (*interpreter, error) {
	language = normalLanguage(language)
	c.mu.Lock()
	in := c.defaults[language]
	c.mu.Unlock()
	if in != nil {
		return in, nil
	}
	in, err := c.create(language, "")
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.defaults[language]; other != nil { // made at the same time
		c.drop(in)
		return other, nil
	}
	c.defaults[language] = in
	return in, nil
}

func (c *contexts) restart(id string) error {
	in, err := c.find(id, "")
	if id == "" || err != nil {
		return cmp.Or(err, errNoContext)
	}
	return in.restart()
}

func (c *contexts) remove(id string) error {
	in, err := c.find(id, "")
	if id == "" || err != nil {
		return cmp.Or(err, errNoContext)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(in)
	return nil
}

// drop forgets a context and ends its kernel; c.mu is held.
func (c *contexts) drop(in *interpreter) {
	c.all = slices.DeleteFunc(c.all, func(other *interpreter) bool { return other == in })
	for language, other := range c.defaults {
		if other == in {
			delete(c.defaults, language)
		}
	}
	in.kill()
}

func (c *contexts) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.all) > 0 {
		c.drop(c.all[0])
	}
}

const (
	// agentTimeout bounds the question for the environment: it is asked for each
	// execution, as a sandbox that was kept and goes on as another has another.
	agentTimeout = 2 * time.Second
	maxEnvs      = 8 << 20
)

// globals is the sandbox's own environment, nil if the agent does not say.
func (c *contexts) globals(ctx context.Context, token string) map[string]string {
	if c.agent == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.agent+"/envs", nil)
	if err != nil {
		return nil
	}
	req.Header.Set("X-Access-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var envs map[string]string
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, maxEnvs)).Decode(&envs) != nil {
		return nil
	}
	for name := range envs {
		if !isName(name) {
			delete(envs, name)
		}
	}
	return envs
}

// normalLanguage is a language's long name.
func normalLanguage(language string) string {
	language = strings.ToLower(strings.TrimSpace(language))
	switch language {
	case "":
		return "python"
	case "js":
		return "javascript"
	case "ts":
		return "typescript"
	}
	return language
}

// newID returns a random UUID, which is what E2B's contexts are called by.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4: RFC 9562, section 5.4
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
