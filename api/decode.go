package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"cube"
)

const (
	// maxBody is the size of the largest body, in bytes. Environment variables
	// and metadata, which are most of it, have limits of their own below that.
	maxBody = 1 << 20
	// bodyTimeout bounds how long a client may take to send a body.
	bodyTimeout = 30 * time.Second
)

// readBody reads a body within its limits of size and time.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(bodyTimeout)) // where there is no connection there is no slow client
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		// Else a request that takes longer than this would end with it.
		_ = connection.SetReadDeadline(time.Time{})
		return data, nil
	}
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return nil, cube.Errorf(cube.TooLarge, "The body is larger than %d bytes", maxBody)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, cube.WrapError(cube.Invalid, err, "The body did not arrive within %s", bodyTimeout)
	}
	return nil, cube.WrapError(cube.Invalid, err, "The body broke off")
}

// fields is a JSON object whose fields are looked at one by one.
type fields map[string]json.RawMessage

// decodeFields reads a body that must be one JSON object.
func decodeFields(data []byte) (fields, error) {
	var f fields
	decoder := json.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&f)
	_, otherType := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case errors.Is(err, io.EOF):
		return nil, cube.Errorf(cube.Invalid, "The body is empty: write a JSON object")
	case otherType, err == nil && f == nil: // f is nil for null
		return nil, cube.Errorf(cube.Invalid, "The body must be a JSON object")
	case err != nil:
		return nil, cube.WrapError(cube.Invalid, err, "The body is not a JSON object: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, cube.Errorf(cube.Invalid, "The body goes on behind its JSON object")
	}
	return f, nil
}

// decodeBody reads a body into a value of our schemas. optional allows an empty
// one. It returns the names of the fields that the schema does not have.
func decodeBody(w http.ResponseWriter, r *http.Request, into any, known []string, optional bool) (unknown []string, err error) {
	data, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	if optional && len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	f, err := decodeFields(data)
	if err != nil {
		return nil, err
	}
	return f.decode(into, known)
}

// decode puts the known fields into a value of our schemas. The others are kept
// from it, as it would also take names in another case.
func (f fields) decode(into any, known []string) (unknown []string, err error) {
	understood := fields{}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if slices.Contains(known, name) {
			understood[name] = f[name]
		} else {
			unknown = append(unknown, name)
		}
	}
	data, err := json.Marshal(understood)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, into); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, cube.Errorf(cube.Invalid, "validation error: the field %q has %.64s where a %s belongs", e.Field, e.Value, jsonType(e.Type.String()))
		}
		return nil, cube.WrapError(cube.Invalid, err, "validation error: %v", err)
	}
	return unknown, nil
}

// jsonType names a Go type as a user of JSON does.
func jsonType(name string) string {
	switch {
	case strings.HasPrefix(name, "int"), strings.HasPrefix(name, "uint"):
		return "whole number"
	case name == "bool":
		return "boolean"
	case name == "string":
		return "string"
	}
	return "JSON object of strings"
}

// warnUnknown names fields that were not understood on the answer (RFC 9110 has
// no better place; Warning's code 299 is 'miscellaneous, persistent').
func warnUnknown(w http.ResponseWriter, unknown []string) {
	const most = 20
	for i, name := range unknown {
		if i == most {
			w.Header().Add("Warning", fmt.Sprintf(`299 cube-api "and %d more fields that are unknown and have no effect"`, len(unknown)-most))
			return
		}
		w.Header().Add("Warning", fmt.Sprintf(`299 cube-api "the field %s is unknown and has no effect"`, printable(name)))
	}
}

// printable makes a user's text fit for a header's quoted string.
func printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
	return clean[:min(len(clean), 64)]
}
