package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// interruptPatience is how long a kernel has to stop when it was interrupted,
// before it is killed and another takes its place.
const interruptPatience = 10 * time.Second

// interruptAgain is how often Bash is interrupted until then.
const interruptAgain = 300 * time.Millisecond

// event is one line of the answer.
type event map[string]any

// job is one piece of code to run, as kernels read it.
type job struct {
	Code     string            `json:"code"`
	Language string            `json:"language"`
	Env      map[string]string `json:"env"`     // of this piece alone
	Globals  map[string]string `json:"globals"` // of the sandbox; null if unknown
}

// interpreter is a context: a kernel, and another after a restart.
type interpreter struct {
	id, language, cwd string

	turn chan struct{} // holds one while code runs

	mu     sync.Mutex // guards what follows
	kernel *kernel    // nil before the first start
	closed bool
}

// start gives it a new kernel.
func (in *interpreter) start() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return fmt.Errorf("Context %s %w", in.id, errNoContext)
	}
	if info, err := os.Stat(in.cwd); err != nil || !info.IsDir() {
		return errors.New("Failed to set working directory")
	}
	k, err := startKernel(in.language, in.cwd)
	if err != nil {
		return fmt.Errorf("Failed to create context: %w", err)
	}
	in.kernel = k
	return nil
}

// restart kills the kernel; code that runs in it ends with an error.
func (in *interpreter) restart() error {
	in.current().kill()
	return in.start()
}

func (in *interpreter) kill() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.kernel.kill()
}

func (in *interpreter) current() *kernel {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.kernel
}

// run runs a piece of code when those before it are done, and sends what it
// gives. When ctx ends the code is interrupted.
func (in *interpreter) run(ctx context.Context, j job, output chan<- event) {
	select {
	case in.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-in.turn }()
	k := in.current()
	if k.isDead() { // code ended it, or killed it
		if err := in.start(); err != nil {
			output <- failure("KernelError", err.Error())
			return
		}
		k = in.current()
	}
	if err := k.begin(j); err != nil {
		output <- failure("KernelError", "the kernel takes no code: run it again")
		k.kill()
		return
	}
	gone := ctx.Done()
	var patience, again <-chan time.Time
	for {
		select {
		case e := <-k.events:
			if e["type"] == "done" {
				return
			}
			output <- e
		case <-k.dead:
			for _, e := range k.last() {
				output <- e
			}
			output <- failure("UnexpectedEndOfExecution", "The kernel ended before the execution was finished: what it knew is lost")
			return
		case <-gone:
			gone = nil
			k.interrupt()
			timer := time.NewTimer(interruptPatience)
			defer timer.Stop()
			patience = timer.C
			if in.language == "bash" { // what it was about to start it starts after a signal
				ticker := time.NewTicker(interruptAgain)
				defer ticker.Stop()
				again = ticker.C
			}
		case <-again:
			k.interrupt()
		case <-patience:
			k.kill()
			patience = nil
		}
	}
}

func failure(name, value string) event {
	return event{"type": "error", "name": name, "value": value, "traceback": ""}
}
