package app

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"cube/auth"
	"cube/quota"
)

// Reread reads the settings again, from where they were read at the start.
type Reread func() (Settings, error)

// reloadOnHangup changes the door's rules and the quotas at each SIGHUP until
// ctx ends, and says in the log what changed, or why nothing did.
func reloadOnHangup(ctx context.Context, s Settings, reread Reread, door *auth.Door, seen observers, quotas *quota.Ledger, log *slog.Logger) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			s = reload(s, reread, door, seen, quotas, log)
		}
	}
}

// reload returns the settings that hold from now on.
func reload(last Settings, reread Reread, door *auth.Door, seen observers, quotas *quota.Ledger, log *slog.Logger) Settings {
	next, err := reread()
	if err == nil && (last.AuthCallbackURL == "") != (next.AuthCallbackURL == "") {
		// The keys' routes stand or not, by it.
		log.Error("the settings were not reloaded: nothing changed", "error", "--auth-callback-url: to begin or to cease to ask a service needs a restart, which sandboxes outlive")
		return last
	}
	if err == nil {
		err = door.Reload(next.rules(seen.asked()))
	}
	if err != nil {
		log.Error("the settings were not reloaded: nothing changed", "error", err)
		return last
	}
	quotas.SetLimits(next.limits())
	changed, restart := differences(last, next)
	log.Info("the settings were reloaded: files were read again, and what was remembered is forgotten", "changed", changed)
	if len(restart) > 0 {
		log.Warn("settings that changed take effect after a restart, which sandboxes outlive", "settings", restart)
	}
	return next
}

// fixed are the settings of AuthSettings that need a restart.
var fixed = map[string]bool{"AuthRequired": true, "AuthTenancy": true, "Audit": true}

// differences names the settings that are not the same, by their variables: a
// value may hold a secret.
func differences(a, b Settings) (now, restart []string) {
	for i := range reflect.TypeFor[Settings]().NumField() {
		field := reflect.TypeFor[Settings]().Field(i)
		va, vb := reflect.ValueOf(a).Field(i), reflect.ValueOf(b).Field(i)
		if field.Anonymous {
			for i := range field.Type.NumField() {
				inner := field.Type.Field(i)
				switch {
				case reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()):
				case fixed[inner.Name]:
					restart = append(restart, inner.Tag.Get("env"))
				default:
					now = append(now, inner.Tag.Get("env"))
				}
			}
			continue
		}
		if !reflect.DeepEqual(va.Interface(), vb.Interface()) {
			restart = append(restart, field.Tag.Get("env"))
		}
	}
	return now, restart
}
