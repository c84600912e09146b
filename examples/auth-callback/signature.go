package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// tolerance is how old a signature may be, and how far the clocks may differ.
const tolerance = time.Minute

// signed tells whether the question comes from who has the key: Cube, with
// --auth-callback-signing-key-file. What is signed are seven lines.
func signed(key []byte, h http.Header, now time.Time) bool {
	if len(h["Authorization"])+len(h["X-Api-Key"]) != 1 {
		return false // with two, the one that is looked at may be another than the signed one
	}
	name, value := "authorization", h.Get("Authorization")
	if value == "" {
		name, value = "x-api-key", h.Get("X-Api-Key")
	}
	timestamp := h.Get("X-Cube-Timestamp")
	mac := hmac.New(sha256.New, key)
	for _, line := range []string{
		"v1", timestamp, h.Get("X-Request-Method"), h.Get("X-Request-Path"), h.Get("X-Request-Id"), name, value,
	} {
		_, _ = io.WriteString(mac, line+"\n") // a hash takes everything
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	want := "v1=" + hex.EncodeToString(mac.Sum(nil))
	return err == nil && now.Sub(time.Unix(seconds, 0)).Abs() <= tolerance &&
		hmac.Equal([]byte(h.Get("X-Cube-Signature")), []byte(want))
}

// readSigningKey reads the file that Cube reads too; no name means no key.
func readSigningKey(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	key := bytes.TrimSpace(content)
	if len(key) < 16 {
		return nil, errors.New("the signing key has less than 16 bytes")
	}
	return key, nil
}
