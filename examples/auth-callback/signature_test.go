package main

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"cube/auth/callback"
)

// With a key to verify with, what Cube did not sign is refused.
func TestSignatures(t *testing.T) {
	const secret = "a key of sixteen bytes and more"
	now := time.Now()
	for _, service := range services {
		t.Run(service.name, func(t *testing.T) {
			file := fileOf(t, " "+secret+"\n")
			url := service.start(t, "keys.json", "--signing-key-file", file)
			for keyFile, want := range map[string]int{file: 200, fileOf(t, secret+"r"): 401, "": 401} {
				door := newDoor(t, callback.Config{URLs: []string{url}, SigningKeyFile: keyFile})
				for _, header := range []string{"X-API-Key: readonly-key-1", "Authorization: Bearer readonly-key-1"} {
					if got, _ := send(t, door.URL, "GET /templates/team%2Fx", header); got != want {
						t.Errorf("through a door, with %q: %d, want %d", header, got, want)
					}
				}
			}
			for _, row := range []struct {
				name   string
				signed time.Time
				key    string
				change func(h http.Header) // after it was signed
				want   int
			}{
				{"as Cube asks", now, secret, func(http.Header) {}, 200},
				{"half a minute ago", now.Add(-30 * time.Second), secret, func(http.Header) {}, 200},
				{"two minutes ago", now.Add(-2 * time.Minute), secret, func(http.Header) {}, 401},
				{"in two minutes", now.Add(2 * time.Minute), secret, func(http.Header) {}, 401},
				{"another key", now, secret + "r", func(http.Header) {}, 401},
				{"no signature", now, secret, func(h http.Header) { h.Del(callback.SignatureHeader) }, 401},
				{"another signature", now, secret, func(h http.Header) { h.Set(callback.SignatureHeader, "v1=é") }, 401},
				{"no time", now, secret, func(h http.Header) { h.Del(callback.TimestampHeader) }, 401},
				{"another time", now, secret, func(h http.Header) { h.Set(callback.TimestampHeader, fmt.Sprint(now.Unix()+1)) }, 401},
				{"another method", now, secret, func(h http.Header) { h.Set("X-Request-Method", "HEAD") }, 401},
				{"another path", now, secret, func(h http.Header) { h.Set("X-Request-Path", "/y") }, 401},
				{"another id", now, secret, func(h http.Header) { h.Set("X-Request-Id", "2") }, 401},
				{"another credential", now, secret, func(h http.Header) { h.Set("X-Api-Key", "secret-key-1") }, 401},
				{"the other header", now, secret, func(h http.Header) {
					h.Set("Authorization", h.Get("X-Api-Key"))
					h.Del("X-Api-Key")
				}, 401},
				{"a second credential", now, secret, func(h http.Header) { h.Set("Authorization", "Bearer secret-key-1") }, 401},
				{"a second of the same", now, secret, func(h http.Header) { h.Add("X-Api-Key", "secret-key-1") }, 401},
			} {
				h := http.Header{
					"X-Request-Method": {"GET"}, "X-Request-Path": {"/x"}, "X-Request-Id": {"1"}, "X-Api-Key": {"readonly-key-1"},
					callback.TimestampHeader: {fmt.Sprint(row.signed.Unix())},
				}
				h.Set(callback.SignatureHeader, callback.Sign([]byte(row.key), h.Get(callback.TimestampHeader), h))
				row.change(h)
				if got := askWith(t, http.MethodPost, url, h); got != row.want {
					t.Errorf("%s: %d, want %d", row.name, got, row.want)
				}
			}
		})
	}
}
