package lifecycle

import (
	"cmp"
	"context"

	"cube"
)

// CreateSnapshot keeps a running sandbox, with its memory, as what new sandboxes
// can start from, and lets it run on. name is "" or a name of the caller's own,
// with or without a tag; a snapshot that had it before is deleted.
//
// Kinds: NotFound, Invalid (the name), Conflict (the sandbox is paused, or the
// name is a template's), Exhausted (no room on the disk), Unsupported, Internal.
func (s *Sandboxes) CreateSnapshot(ctx context.Context, id cube.SandboxID, name string) (cube.Snapshot, error) {
	owner, _, err := s.owner(ctx)
	if err != nil {
		return cube.Snapshot{}, err
	}
	var label snapshotName
	if name != "" {
		if label, err = parseSnapshotName(name); err != nil {
			return cube.Snapshot{}, err
		}
		_, taken := s.template(label.name)
		if _, is, err := s.userTemplate(ctx, label.name); is || cube.KindOf(err) == cube.Conflict && err != nil {
			taken = true
		}
		if taken || isSnapshotID(label.name) {
			return cube.Snapshot{}, cube.Errorf(cube.Conflict, "The name %q belongs to a template: choose another", label.name)
		}
	}
	l, err := s.findFor(ctx, id)
	if err != nil {
		return cube.Snapshot{}, err
	}
	sandbox, info, err := s.keep(ctx, l)
	if err != nil {
		return cube.Snapshot{}, err
	}
	snapshot := cube.Snapshot{
		ID: info.ID, Name: label.name, Tag: cmp.Or(label.tag, cube.DefaultTag),
		Sandbox: id, Template: s.origin(ctx, sandbox.Template), Alias: sandbox.Alias, Resources: sandbox.Resources,
		CreatedAt: now(), Owner: owner, Account: cube.IdentityFrom(ctx).Account(), Memory: info.Memory, Bytes: info.Bytes,
		HostKey: sandbox.HostKey, EnvVars: sandbox.EnvVars, User: sandbox.User, Workdir: sandbox.Workdir,
	}
	if err := s.insertSnapshot(ctx, snapshot); err != nil {
		s.spawn(func() { s.discard(id, info.ID) })
		return cube.Snapshot{}, err
	}
	s.log.Info("snapshot made", "snapshot", snapshot.ID, "sandbox", id, "bytes", snapshot.Bytes)
	return snapshot, nil
}

// origin is the template that a sandbox comes from in the end: that of a
// snapshot, if it was started from one that still is there.
func (s *Sandboxes) origin(ctx context.Context, template cube.TemplateID) cube.TemplateID {
	if isSnapshotID(string(template)) {
		if from, err := s.store.Snapshot(ctx, cube.SnapshotID(template)); err == nil {
			return from.Template
		}
	}
	return template
}

// insertSnapshot writes the row of a snapshot, whatever becomes of the request
// meanwhile, and deletes those that had its name.
func (s *Sandboxes) insertSnapshot(ctx context.Context, snapshot cube.Snapshot) error {
	s.naming.Lock()
	defer s.naming.Unlock()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	var replaces []cube.SnapshotID
	if snapshot.Name != "" {
		same, err := s.namedSnapshots(bounded, snapshotName{snapshot.Name, snapshot.Tag}, tenantOf(s.tenancy, snapshot.Owner))
		if err != nil {
			return err
		}
		for _, old := range same { // an operator without a tenant sees all of them
			if s.tenancy.Tenant(old.Owner) == s.tenancy.Tenant(snapshot.Owner) {
				replaces = append(replaces, old.ID)
			}
		}
	}
	if err := s.store.CreateSnapshot(bounded, snapshot, replaces); err != nil {
		return err
	}
	for _, old := range replaces {
		s.spawn(func() { s.discard(snapshot.Sandbox, old) })
	}
	return nil
}

// keep has the engine keep a running sandbox as a new snapshot that nobody knows
// yet, and lets it run on. The sandbox is as it was at that moment.
func (s *Sandboxes) keep(ctx context.Context, l *live) (cube.Sandbox, cube.SnapshotInfo, error) {
	failed := func(err error) (cube.Sandbox, cube.SnapshotInfo, error) {
		return cube.Sandbox{}, cube.SnapshotInfo{}, err
	}
	release, err := s.occupyAlive(ctx, l)
	if err != nil {
		return failed(err)
	}
	defer release()
	l.mu.Lock()
	sandbox := l.sandbox
	if sandbox.State != cube.Running {
		l.mu.Unlock()
		if sandbox.State == cube.Paused {
			return failed(cube.Errorf(cube.Conflict, "Sandbox %s is paused: resume it first", l.id))
		}
		return failed(notFound(sandbox))
	}
	caller := cube.IdentityFrom(ctx)
	if err := s.quota.MayHold(caller.Account(), caller.Limits, 0); err != nil {
		l.mu.Unlock()
		return failed(err)
	}
	work, done := s.work(ctx, l, keepTimeout)
	l.mu.Unlock()
	info, err := s.engine.Checkpoint(work, cube.CheckpointRequest{Sandbox: l.id, Snapshot: cube.NewSnapshotID(), Memory: true})
	done()
	if err == nil {
		s.thaw(l)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.sandbox.State != cube.Running:
		if err == nil {
			s.spawn(func() { s.discard(l.id, info.ID) })
		}
		return failed(s.changed(l))
	case err != nil:
		return failed(explainKeep(s.ctx, err))
	}
	if err := s.quota.Hold(caller.Account(), caller.Limits, info.ID, info.Bytes); err != nil {
		s.spawn(func() { s.discard(l.id, info.ID) })
		return failed(err)
	}
	return sandbox, info, nil
}

// thaw lets a sandbox run on, unless it has died, which whoever watches it sees,
// or was killed: whoever removes it waits for this.
func (s *Sandboxes) thaw(l *live) {
	s.retry(l.id, "letting the sandbox run on", func() error {
		if l.state() != cube.Running {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), stopTimeout)
		defer cancel()
		err := s.engine.Thaw(ctx, l.id)
		if cube.KindOf(err) == cube.NotFound {
			return nil
		}
		return err
	})
}

// DeleteSnapshot deletes a snapshot of the caller's, by its id or its name.
// Sandboxes that were started from it live on. Kinds: NotFound, Forbidden (a
// template of the server's).
func (s *Sandboxes) DeleteSnapshot(ctx context.Context, name string) error {
	snapshot, err := s.findSnapshot(ctx, name)
	if err != nil {
		if _, is := s.template(name); is && cube.KindOf(err) == cube.NotFound {
			return cube.Errorf(cube.Forbidden, "The template %.64q belongs to this server: only snapshots can be deleted", name)
		}
		return err
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := s.store.DeleteSnapshot(bounded, snapshot.ID); err != nil {
		if cube.KindOf(err) == cube.NotFound {
			return errNoSnapshot(name)
		}
		return err
	}
	s.quota.Drop(snapshot.ID)
	s.spawn(func() { s.discard(snapshot.Sandbox, snapshot.ID) })
	return nil
}
