package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// They are the load on a system whose auth service is in trouble, and how long a client
// waits for an answer.
const (
	troubleRate     = 200 // requests a second
	troublePatience = 5 * time.Second
	slowBy          = 100 * time.Millisecond
	// patientTimeout is for the crowd, whose requests are more than one core can
	// do within callbackTimeout.
	patientTimeout = 10 * time.Second
)

// trouble shows what each system does while its auth service is slow, hangs, is
// down, restarts, closes connections, or is asked by thousands at once.
func (b *bench) trouble() error {
	callers := b.callers()
	fmt.Printf("\n### With an auth service in trouble\n\n%d requests a second; every system waits %s for an answer if it can be told to, %s with the crowd; a client waits %s.\n\n",
		troubleRate, callbackTimeout, patientTimeout, troublePatience)
	fmt.Printf("| | slow by %s | hangs | refuses connections | is away for 1 s | closes when asked again | %d callers on one key |\n|---|---|---|---|---|---|---|\n", slowBy, callers)
	for _, v := range b.asking() {
		cells := []string{v.String()}
		for _, s := range []scene{
			{b.slow, callbackTimeout}, {b.hung, callbackTimeout}, {b.dead, callbackTimeout}, {b.restart, callbackTimeout},
			{b.closing, callbackTimeout}, {b.crowd(callers), patientTimeout},
		} {
			cell, err := b.play(v, s)
			if err != nil {
				return fmt.Errorf("%s: %w", v, err)
			}
			cells = append(cells, cell)
		}
		fmt.Printf("| %s |\n", strings.Join(cells, " | "))
	}
	return b.ctx.Err()
}

// asking are all variants that ask.
func (b *bench) asking() []variant {
	var variants []variant
	for _, s := range b.systems {
		variants = append(variants, variant{s, true, false})
		if s.caches {
			variants = append(variants, variant{s, true, true})
		}
	}
	return variants
}

// scene is one part: what is done, and how long the system waits for an answer.
type scene struct {
	play    func(*process) (string, error)
	timeout time.Duration
}

// play runs a scene with a system of its own, and with a service that is well
// before and after.
func (b *bench) play(v variant, s scene) (string, error) {
	p, err := b.start(v, s.timeout)
	if err != nil {
		return "", err
	}
	defer p.stop()
	defer b.service.set(allow)
	return s.play(p)
}

// fresh are requests for something that no cache holds from the start on.
func fresh(p *process) load {
	return load{
		addr: p.Listen, request: []byte(strings.Replace(string(request), "/sandboxes", "/sandboxes/other", 1)),
		perSecond: troubleRate, connections: 8, maxConnections: 2000, patience: troublePatience,
	}
}

func (b *bench) slow(p *process) (string, error) {
	b.service.set(slowly(slowBy))
	connections, questions := b.service.connections.Load(), b.service.questions.Load()
	l := fresh(p)
	l.duration = 2 * time.Second
	outcomes, err := l.run()
	return fmt.Sprintf("%s, p50 %s; %d questions, %d connections", statusesOf(outcomes), middle(outcomes),
		b.service.questions.Load()-questions, b.service.connections.Load()-connections), err
}

func (b *bench) hung(p *process) (string, error) {
	b.service.set(hang)
	l := fresh(p)
	l.count = 40
	outcomes, err := l.run()
	return fmt.Sprintf("%s after %s", statusesOf(outcomes), middle(outcomes)), err
}

func (b *bench) dead(p *process) (string, error) {
	b.service.down()
	l := fresh(p)
	l.count = 100
	outcomes, err := l.run()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s after %s", statusesOf(outcomes), middle(outcomes)), b.service.up()
}

// restart takes the service away for the second of three seconds.
func (b *bench) restart(p *process) (string, error) {
	const away, back = time.Second, 2 * time.Second
	up := make(chan error, 1)
	time.AfterFunc(away, b.service.down)
	time.AfterFunc(back, func() { up <- b.service.up() })
	l := fresh(p)
	l.duration = 3 * time.Second
	outcomes, err := l.run()
	if err != nil {
		return "", err
	}
	var before, during, after []outcome
	recovered := time.Duration(0) // until the last failure
	for _, o := range outcomes {
		switch {
		case o.intended < away:
			before = append(before, o)
		case o.intended < back:
			during = append(during, o)
		default:
			after = append(after, o)
			if o.status != 200 {
				recovered = max(recovered, o.intended+o.took-back)
			}
		}
	}
	cell := fmt.Sprintf("before %s; away %s; back %s", statusesOf(before), statusesOf(during), statusesOf(after))
	if recovered > 0 {
		cell += fmt.Sprintf(", the last failure %s later", round(recovered))
	}
	return cell, <-up
}

func (b *bench) closing(p *process) (string, error) {
	b.service.set(once)
	questions := b.service.questions.Load()
	l := fresh(p)
	l.count = 400
	outcomes, err := l.run()
	return fmt.Sprintf("%s; %d questions", statusesOf(outcomes), b.service.questions.Load()-questions), err
}

// crowd sends the same question from many clients at one moment, to a service
// that takes its time.
func (b *bench) crowd(callers int) func(*process) (string, error) {
	return func(p *process) (string, error) {
		b.service.set(slowly(slowBy))
		connections, questions := b.service.connections.Load(), b.service.questions.Load()
		l := fresh(p)
		l.perSecond, l.count, l.connections, l.patience = 0, callers, callers, 30*time.Second
		outcomes, err := l.run()
		var last time.Duration
		for _, o := range outcomes {
			last = max(last, o.intended+o.took)
		}
		return fmt.Sprintf("%s in %s; %d questions, %d connections", statusesOf(outcomes), round(last),
			b.service.questions.Load()-questions, b.service.connections.Load()-connections), err
	}
}

// callers is how many there can be: one has a connection here, one at the service
// and one at the backend, all of them in this process.
func (b *bench) callers() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return b.options.callers
	}
	return min(b.options.callers, (int(files.Cur)-500)/3/1000*1000)
}

// statusesOf counts answers, as in "200×5 500×2".
func statusesOf(outcomes []outcome) string {
	counts := map[int]int{}
	for _, o := range outcomes {
		counts[o.status]++
	}
	var parts []string
	for status, n := range counts {
		name := fmt.Sprint(status)
		if status == 0 {
			name = "none"
		}
		parts = append(parts, fmt.Sprintf("%s×%d", name, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// middle is the median time of the answers.
func middle(outcomes []outcome) string {
	var took []time.Duration
	for _, o := range outcomes {
		took = append(took, o.took)
	}
	return round(time.Duration(microseconds(took, 50)) * time.Microsecond)
}

func round(d time.Duration) string {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}
