package cube

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"time"
)

// NewTemplateID returns an id that was never used before, of E2B's form: 20
// characters of a-z0-9.
func NewTemplateID() TemplateID {
	return TemplateID(NewSandboxID()[1:])
}

// BuildID names a build for ever: a UUID.
type BuildID string

var buildIDPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// NewBuildID returns an id that was never used before.
func NewBuildID() BuildID {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4: random
	return BuildID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}

// IsBuildID tells whether a text has the form of one.
func IsBuildID(text string) bool { return buildIDPattern.MatchString(text) }

// UserTemplate is a template that somebody owns, as the store keeps it: what it
// was made into is in its builds.
type UserTemplate struct {
	ID        TemplateID
	Owner     Owner
	Account   string // for whom it is counted
	Namespace string // in which its aliases are: its tenant, "" without tenancy
	Aliases   []string
	Public    bool      // others may start sandboxes from it
	CreatedAt time.Time // UTC, whole milliseconds, as all times here
	UpdatedAt time.Time
	// LastSpawnedAt is when the last sandbox was made of it, zero for none.
	LastSpawnedAt time.Time
	SpawnCount    int64
	BuildCount    int
	// Latest is its newest build, whatever its status.
	Latest Build
}

// Build is what a template was made of, and what came of it.
type Build struct {
	ID         BuildID
	Template   TemplateID
	Tags       []string // what it becomes once it is ready
	Status     BuildStatus
	Failure    BuildFailure // of BuildError
	Resources  Resources
	CreatedAt  time.Time
	UpdatedAt  time.Time
	FinishedAt time.Time // zero until it is ready or failed
	// Spec is what it was asked to be made of, in package build's JSON; "" until
	// somebody has said. It holds no credentials, and may hold other secrets: never
	// logged.
	Spec string
	// Snapshot is what its sandboxes start from; "" until it is ready, and when it
	// was dropped to make room.
	Snapshot SnapshotID
	Memory   bool
	HostKey  string // of the agent in the memory; a secret
	Defaults Defaults
	// BaseSnapshot and Base, package build's JSON, are for builds from this one.
	BaseSnapshot SnapshotID
	Base         string
}

// Tag is a name of a template's build.
type Tag struct {
	Name       string
	Build      BuildID
	AssignedAt time.Time
}

// Spawn is how many sandboxes were made of a template, and when the last.
type Spawn struct {
	Count int64
	Last  time.Time
}

// TemplateQuery selects templates. The zero value of a field filters nothing.
type TemplateQuery struct {
	Owner Owner           // only its fields that are set are compared
	After *TemplateCursor // only what follows it
	Limit int             // at most so many; 0 means all
}

// TemplateCursor is a place in the order of a list. No row need stand there.
type TemplateCursor struct {
	CreatedAt time.Time
	ID        string // of a template, or of a build
}

// BuildLogQuery selects lines of a build's log.
type BuildLogQuery struct {
	Level    string    // at least so grave; "" for all
	From     time.Time // at or after it, or at or before it if Backward; zero for all
	Backward bool      // the newest first
	Offset   int       // so many of those that match are left out
	Limit    int
}

// TemplateStore keeps the rows of templates, their builds, and the layers that
// builds left for others. All methods may be called concurrently; what one of
// them has written, every later call sees. storetest checks these promises.
type TemplateStore interface {
	// CreateBuild adds a build. A template that is not there is added with it, and
	// its aliases; of one that is there, UpdatedAt and the number of builds change.
	// Kind: Conflict (an id or an alias is in use; nothing was written).
	CreateBuild(ctx context.Context, t UserTemplate, b Build) error

	// UserTemplate returns one row. Kind: NotFound.
	UserTemplate(ctx context.Context, id TemplateID) (UserTemplate, error)

	// TemplateByAlias returns the row that has an alias. Kind: NotFound.
	TemplateByAlias(ctx context.Context, namespace, alias string) (UserTemplate, error)

	// ListTemplates returns the rows that match, newest first.
	ListTemplates(ctx context.Context, q TemplateQuery) ([]UserTemplate, error)

	// CountTemplates returns how many count for an account.
	CountTemplates(ctx context.Context, account string) (int, error)

	// SetTemplatePublic changes who may use a template. Kind: NotFound.
	SetTemplatePublic(ctx context.Context, id TemplateID, public bool, at time.Time) error

	// DeleteTemplate removes a template and all that belongs to it. Of any number of
	// calls for it one succeeds, and gets the snapshots that it named. Kind: NotFound.
	DeleteTemplate(ctx context.Context, id TemplateID) ([]SnapshotID, error)

	// AddSpawns adds to what was counted. Templates that are gone are left out.
	AddSpawns(ctx context.Context, spawns map[TemplateID]Spawn) error

	// Build returns one row. Kind: NotFound.
	Build(ctx context.Context, id BuildID) (Build, error)

	// BuildByTag returns the build that a tag of a template stands for. Kind: NotFound.
	BuildByTag(ctx context.Context, id TemplateID, tag string) (Build, error)

	// ListBuilds returns those of a template, newest first; after nil from the first,
	// and at most limit of them, 0 for all.
	ListBuilds(ctx context.Context, id TemplateID, after *TemplateCursor, limit int) ([]Build, error)

	// UnfinishedBuilds returns those that are waiting or building, the oldest first.
	UnfinishedBuilds(ctx context.Context) ([]Build, error)

	// UpdateBuild replaces all but Template, Tags, Resources and CreatedAt of a
	// build's row, if its status is from. One that becomes ready gets its tags in the
	// same write, but for those that were assigned to another since it was asked for;
	// what it becomes outlives the machine's power. Kinds: NotFound, Conflict (its
	// status is another; nothing was written).
	UpdateBuild(ctx context.Context, from BuildStatus, b Build) error

	// TagBuild has tags of a template stand for a build. Kind: NotFound (no such
	// template).
	TagBuild(ctx context.Context, id TemplateID, build BuildID, tags []string, at time.Time) error

	// Untag removes tags of a template. Those that are not there are no error.
	Untag(ctx context.Context, id TemplateID, tags []string) error

	// Tags returns those of a template, the newest first.
	Tags(ctx context.Context, id TemplateID) ([]Tag, error)

	// DropBuilds takes the snapshots from builds of a template that no tag names, but
	// for the newest keep, and returns them.
	DropBuilds(ctx context.Context, id TemplateID, keep int) ([]SnapshotID, error)

	// AddBuildLog adds lines to a build's log, if there is the build.
	AddBuildLog(ctx context.Context, id BuildID, lines []LogEntry) error

	// BuildLog returns the lines that match.
	BuildLog(ctx context.Context, id BuildID, q BuildLogQuery) ([]LogEntry, error)

	// Layer returns the snapshot that stands under a key, and notes that it was used.
	// Kind: NotFound.
	Layer(ctx context.Context, key string, at time.Time) (SnapshotID, error)

	// PutLayer keeps a snapshot under a key, and returns the one that stood there, ""
	// for none.
	PutLayer(ctx context.Context, key string, id SnapshotID, at time.Time) (SnapshotID, error)

	// DropLayers removes those that were last used before the given time, and the
	// longest unused of those above keep, and returns their snapshots.
	DropLayers(ctx context.Context, before time.Time, keep int) ([]SnapshotID, error)

	// TemplateSnapshots returns all that builds and layers name.
	TemplateSnapshots(ctx context.Context) (map[SnapshotID]bool, error)
}

// Names are what others call a template by: its aliases, with its namespace where
// it has one.
func (t UserTemplate) Names() []string {
	names := make([]string, len(t.Aliases))
	for i, alias := range t.Aliases {
		names[i] = alias
		if t.Namespace != "" {
			names[i] = t.Namespace + "/" + alias
		}
	}
	return names
}
