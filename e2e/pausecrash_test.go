package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cube/internal/testhost"
)

// TestAKilledServerLosesNoPausedSandbox kills servers at random moments of pauses,
// resumes, forks and snapshots, and of their packing. After each new start the
// sandboxes are there with what was written in them, on the disk and in memory, and
// nothing is on the machine that the server does not know of.
func TestAKilledServerLosesNoPausedSandbox(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("5a", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		moments int
		args    []string
	}{
		{"packed at once", 30, []string{"--snapshot-pack-after", "1ms", "--sandbox-network", "10.213.0.0/17", "--spares=0"}},
		{"encrypted", 20, []string{"--snapshot-key-file", key, "--sandbox-network", "10.213.128.0/17", someSpares}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // a server that starts waits for the disk more than it works
			c := startCrashing(t, test.args...)
			for moment := 1; moment <= test.moments; moment++ {
				c.workAndCrash(time.Duration(rand.IntN(300)) * time.Millisecond)
				c.recovered(moment)
			}
			c.empty()
		})
	}
}

// someSpares is a server's setting with which it may have two.
const someSpares = "--spares=2"

// crashing is a server that is killed, and what it must not lose.
type crashing struct {
	*server
	survivors []string // sandboxes
	kept      string   // a snapshot that new ones start from
	chunks    []string // the files of the packed snapshots, while there is kept alone
}

func startCrashing(t *testing.T, args ...string) *crashing {
	t.Helper()
	c := &crashing{server: start(t, append(args, "--sandbox-memory", "128", "--sandbox-cpus", "1")...)}
	for range 3 {
		c.survivors = append(c.survivors, c.createOpen("base"))
	}
	must(t, c.each(func(id string) error { return c.write(id, 0) }))
	status, body, err := c.ask("POST", "/sandboxes/"+c.survivors[0]+"/snapshots", map[string]any{})
	if err != nil {
		t.Fatalf("making a snapshot: %d %s", status, body)
	}
	c.kept = snapshotOf(body)
	must(t, poll(func() error {
		list := filepath.Join(c.dir, "snapshots", c.kept, "chunks.list")
		_, err := os.Stat(list)
		return err
	}))
	c.chunks = c.chunkFiles()
	return c
}

// workAndCrash has clients at work on the sandboxes, kills the server after a
// while, and starts it again.
func (c *crashing) workAndCrash(after time.Duration) {
	var clients sync.WaitGroup
	for _, id := range c.survivors {
		clients.Go(func() {
			for c.step(id) == nil {
			}
		})
	}
	time.Sleep(after) // the random moment is what this test is about
	_ = c.cmd.Process.Kill()
	clients.Wait()
	<-c.done
	c.launch()
}

var errDead = errors.New("the server is dead")

// step does something to a sandbox that leaves it running. Each answer but that of
// a dead server must be a good one.
func (c *crashing) step(id string) error {
	do := func(method, path string, form any) (answer []byte, err error) {
		status, answer, err := c.ask(method, path, form)
		if err != nil && status != 0 {
			c.t.Errorf("%s %s: %v", method, path, err)
		}
		return answer, err
	}
	switch rand.IntN(5) {
	case 0:
		_, err := do("POST", "/sandboxes/"+id+"/fork", map[string]int{"count": 2, "timeout": 60})
		return err
	case 1:
		answer, err := do("POST", "/sandboxes/"+id+"/snapshots", map[string]any{})
		if err != nil {
			return err
		}
		from := snapshotOf(answer)
		if _, err := do("POST", "/sandboxes", map[string]any{"templateID": from, "timeout": 60}); err != nil {
			return err
		}
		_, err = do("DELETE", "/templates/"+from, nil)
		return err
	}
	if _, err := do("POST", "/sandboxes/"+id+"/pause", nil); err != nil {
		return err
	}
	time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond) // packing begins, or not
	_, err := do("POST", "/sandboxes/"+id+"/connect", map[string]int{"timeout": 600})
	return err
}

// recovered checks what there is after a new start, and makes it ready for the next
// moment.
func (c *crashing) recovered(moment int) {
	c.t.Helper()
	must(c.t, c.each(func(id string) error {
		if _, _, err := c.ask("POST", "/sandboxes/"+id+"/connect", map[string]int{"timeout": 600}); err != nil {
			return fmt.Errorf("moment %d: connecting to %s: %w", moment, id, err)
		}
		if err := c.wantWritten(id, moment-1); err != nil {
			return fmt.Errorf("moment %d: %w", moment, err)
		}
		return c.write(id, moment)
	}))
	if moment%5 == 0 {
		must(c.t, c.wantWritten(c.createOpen(c.kept), 0))
	}
	c.removeOthers()
	if err := poll(func() error { return errors.Join(c.foreign(), c.strayFiles()) }); err != nil {
		c.t.Fatalf("moment %d: there is what nobody has:\n%v", moment, err)
	}
}

// removeOthers kills and deletes all but the survivors and the kept snapshot.
func (c *crashing) removeOthers() {
	c.t.Helper()
	var removing sync.WaitGroup
	for _, id := range c.list() {
		if !slices.Contains(c.survivors, id) {
			removing.Go(func() { _, _, _ = c.ask("DELETE", "/sandboxes/"+id, nil) })
		}
	}
	removing.Wait()
	_, body, err := c.ask("GET", "/snapshots", nil)
	var list []struct{ SnapshotID string }
	must(c.t, errors.Join(err, json.Unmarshal(body, &list)))
	for _, snapshot := range list {
		if id, _, _ := strings.Cut(snapshot.SnapshotID, ":"); id != c.kept {
			_, _, err := c.ask("DELETE", "/templates/"+snapshot.SnapshotID, nil)
			must(c.t, err)
		}
	}
}

// foreign lists what there is of sandboxes that are no survivors, and not among the
// two spares that a server may have.
func (c *crashing) foreign() error {
	var err error
	interfaces := 0
	known := slices.Clone(c.survivors)
	if slices.Contains(c.args, someSpares) {
		for _, id := range names(filepath.Join(c.dir, "sandboxes")) {
			if !slices.Contains(known, id) && len(known) < len(c.survivors)+2 {
				known = append(known, id)
			}
		}
	}
	for _, line := range testhost.Leftovers(c.dir) {
		isSurvivors := slices.ContainsFunc(known, func(id string) bool { return strings.Contains(line, id) })
		if strings.HasPrefix(line, "interface ") {
			interfaces++
			isSurvivors = interfaces <= len(known)
		}
		if !isSurvivors {
			err = errors.Join(err, errors.New(line))
		}
	}
	return err
}

// strayFiles lists the files of snapshots that are not the kept one's, and those of
// it that should not be there or are gone.
func (c *crashing) strayFiles() error {
	var err error
	wants := func(what string, got, want []string) {
		if !slices.Equal(got, want) {
			err = errors.Join(err, fmt.Errorf("%s: there is %q, want %q", what, got, want))
		}
	}
	wants("snapshots", names(filepath.Join(c.dir, "snapshots")), []string{c.kept})
	wants("the kept one", names(filepath.Join(c.dir, "snapshots", c.kept)), []string{"chunks.list", "manifest.json"})
	wants("chunks", c.chunkFiles(), c.chunks)
	return err
}

func (c *crashing) chunkFiles() []string {
	var files []string
	_ = filepath.WalkDir(filepath.Join(c.dir, "chunks"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() != "key.check" {
			files = append(files, entry.Name())
		}
		return nil
	})
	return files
}

// empty removes all; then nothing may be left.
func (c *crashing) empty() {
	c.t.Helper()
	c.survivors, c.kept, c.chunks = nil, "", nil
	c.removeOthers()
	err := poll(func() error {
		return errors.Join(c.foreign(), nothing(names(filepath.Join(c.dir, "snapshots"))), nothing(c.chunkFiles()))
	})
	if err != nil {
		c.t.Errorf("when all was removed there still is:\n%v", err)
	}
}

// each does something with all survivors at once.
func (c *crashing) each(do func(id string) error) error {
	errs := make([]error, len(c.survivors))
	var group sync.WaitGroup
	for i, id := range c.survivors {
		group.Go(func() { errs[i] = do(id) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// ask is try with a status above 399 as an error. Status 0 is that of no answer.
func (c *crashing) ask(method, path string, form any, headers ...string) (int, []byte, error) {
	status, body, err := c.try(method, path, form, append(headers, "X-API-Key", fullKey)...)
	switch {
	case err != nil:
		return 0, nil, errors.Join(errDead, err)
	case status >= http.StatusBadRequest:
		return status, body, fmt.Errorf("%d %s", status, body)
	}
	return status, body, nil
}

// createOpen creates a sandbox whose agent asks nobody for a token.
func (c *crashing) createOpen(template string) string {
	c.t.Helper()
	_, body, err := c.ask("POST", "/sandboxes", map[string]any{"templateID": template, "timeout": 600})
	var created sandbox
	must(c.t, errors.Join(err, json.Unmarshal(body, &created)))
	return created.SandboxID
}

// places are where a moment is written: on the sandbox's disk, and in its memory.
var places = []string{"/home/user/moment", "/dev/shm/moment"}

func (c *crashing) write(id string, moment int) error {
	for _, place := range places {
		_, _, err := c.ask("POST", "/files?username=user&path="+place, moment,
			"E2b-Sandbox-Id", id, "E2b-Sandbox-Port", "49983", "Content-Type", "application/octet-stream")
		if err != nil {
			return fmt.Errorf("writing %s in %s: %w", place, id, err)
		}
	}
	return nil
}

func (c *crashing) wantWritten(id string, moment int) error {
	for _, place := range places {
		_, body, err := c.ask("GET", "/files?username=user&path="+place, nil, "E2b-Sandbox-Id", id, "E2b-Sandbox-Port", "49983")
		if got, want := string(body), fmt.Sprint(moment); err != nil || got != want {
			return fmt.Errorf("%s of %s is %s, want %s: %w", place, id, got, want, err)
		}
	}
	return nil
}

func snapshotOf(answer []byte) string {
	var made struct{ SnapshotID string }
	_ = json.Unmarshal(answer, &made)
	id, _, _ := strings.Cut(made.SnapshotID, ":")
	return id
}

func names(dir string) []string {
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func nothing(found []string) error {
	if len(found) > 0 {
		return fmt.Errorf("%q", found)
	}
	return nil
}

// poll waits until check finds nothing wrong, and returns what it finds if that
// takes too long.
func poll(check func() error) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := check(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
