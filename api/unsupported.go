package api

import (
	"encoding/json"
	"maps"
	"slices"

	"cube"
)

// Fields of the protocol that are not served yet. Dropped in silence they would
// leave a user with less than they believe they have, in isolation above all. So
// what asks for something is refused by name, and what holds its default, which
// some SDKs always send, is accepted.

// policy is the JSON of a field, decoded, and what of it is no more than the
// default.
type policy struct {
	feature  string
	served   []string       // those of its own fields that are looked at elsewhere
	defaults map[string]any // of its other own fields; nil for a field that is no object
	value    any            // the default of a field that is no object
	taken    bool           // it is served: its default alone is removed, as saying it is saying nothing
}

var policies = map[string]policy{
	"autoPause":       {value: false, taken: true},
	"autoPauseMemory": {value: true, taken: true},
	"autoResume":      {served: []string{"enabled"}, defaults: map[string]any{}, taken: true},
	"network": {feature: "Network rules", served: []string{
		"allowPublicTraffic", "allowOut", "denyOut", "rules", "egressProxy", "maskRequestHost", "httpsPorts",
	}, defaults: map[string]any{}},
	"iam":          {feature: "Identity tokens", defaults: map[string]any{"tokens": nil}},
	"volumeMounts": {feature: "Volumes"},
}

// refuseUnsupported removes from f what holds a default and is not served at
// all, and refuses what does not.
func (f fields) refuseUnsupported() error {
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		data, there := f[name]
		if !there {
			continue
		}
		var value any
		if err := json.Unmarshal(data, &value); err != nil {
			return err // it was decoded once already
		}
		p := policies[name]
		if p.taken && p.defaults == nil {
			if value == nil || value == p.value {
				delete(f, name)
			}
			continue
		}
		if err := p.check(name, value); err != nil {
			return err
		}
		object, _ := value.(map[string]any)
		if p.served == nil || p.taken && (object == nil || object["enabled"] == nil || object["enabled"] == false) {
			delete(f, name)
		}
	}
	return nil
}

func (p policy) check(name string, value any) error {
	if isEmpty(value) || value == p.value {
		return nil
	}
	object, isObject := value.(map[string]any)
	if !isObject || p.defaults == nil {
		return p.refuse(name)
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		normal, known := p.defaults[key]
		if slices.Contains(p.served, key) {
			continue
		}
		if !known {
			return cube.Errorf(cube.Invalid, "The field %s.%.64s is unknown: what %s holds is never ignored", name, key, name)
		}
		if !isEmpty(object[key]) && object[key] != normal {
			return p.refuse(name + "." + key)
		}
	}
	return nil
}

func (p policy) refuse(field string) error {
	return cube.Errorf(cube.Invalid, "The field %s asks for what this version of Cube API Server does not support (%s): leave it out", field, p.feature)
}

// isEmpty is true for null and for a list or an object without content.
func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}
