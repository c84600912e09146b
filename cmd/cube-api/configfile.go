package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/alecthomas/kong"
)

// configFile is a file of settings: one JSON object whose names are those of the
// flags. A flag and a variable beat it.
type configFile map[string]any

// readConfigFile is a kong.ConfigurationLoader.
func readConfigFile(r io.Reader) (kong.Resolver, error) {
	var f configFile
	decoder := json.NewDecoder(r)
	decoder.UseNumber()
	if err := decoder.Decode(&f); err != nil {
		return nil, fmt.Errorf("the file of --config must be one JSON object such as {\"auth-callback-url\": \"https://auth.example/verify\"}: %w", err)
	}
	return f, nil
}

// Validate refuses names that are no setting: a misspelt one would leave a door
// open in silence.
func (f configFile) Validate(app *kong.Application) error {
	known := map[string]bool{}
	for _, group := range app.AllFlags(false) {
		for _, flag := range group {
			known[flag.Name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if !known[name] || name == "config" || name == "help" {
			return fmt.Errorf("the file of --config has %q, which is no setting ('cube-api --help' lists what can be set)", name)
		}
	}
	return nil
}

// Resolve is asked for flags that were not given.
func (f configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, there := f[flag.Name]
	if !there || slices.ContainsFunc(flag.Envs, isSet) {
		return nil, nil
	}
	if number, ok := value.(json.Number); ok {
		return number.String(), nil
	}
	return value, nil
}

func isSet(variable string) bool {
	_, set := os.LookupEnv(variable)
	return set
}
