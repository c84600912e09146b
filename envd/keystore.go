package envd

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the format's
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// keystores are where Java looks for whom it trusts: Debian's, Fedora's, and those
// of the usual images.
var keystores = []string{
	"etc/ssl/certs/java/cacerts", "etc/pki/ca-trust/extracted/java/cacerts", "opt/java/openjdk/lib/security/cacerts",
	"usr/lib/jvm/*/lib/security/cacerts",
}

const (
	keystoreMagic = 0xfeedfeed
	keystoreAlias = "cube-"
	// The password that everybody knows: it protects nothing, and the format wants
	// one for its checksum.
	keystorePassword = "changeit"
	maxAlias         = 1 << 10
)

var errKeystore = errors.New("no Java keystore that could be read")

// trustInJava adds certificates to Java's keystores, in the place of those that
// were added before. One that cannot be read stays as it is: Java's own format is
// read, and an image with another (PKCS #12) goes on without.
func (m machine) trustInJava(certificates string) error {
	var done []string
	for _, pattern := range keystores {
		found, _ := filepath.Glob(m.path(pattern))
		for _, name := range found {
			real, err := filepath.EvalSymlinks(name)
			if err != nil || slices.Contains(done, real) {
				continue
			}
			done = append(done, real)
			info, err := os.Stat(real)
			if err != nil || !info.Mode().IsRegular() || info.Size() > maxBundle {
				continue
			}
			old, err := os.ReadFile(real)
			if err != nil {
				continue
			}
			changed, err := changeKeystore(old, certificates)
			if err != nil || bytes.Equal(changed, old) {
				continue
			}
			if err := replaceFile(real, changed); err != nil && !errors.Is(err, fs.ErrPermission) && !isReadOnly(err) {
				return err
			}
		}
	}
	return nil
}

// changeKeystore returns a keystore with the certificates of a PEM text, and
// without those of an earlier one.
func changeKeystore(old []byte, certificates string) ([]byte, error) {
	if len(old) < 12+sha1.Size || binary.BigEndian.Uint32(old) != keystoreMagic || binary.BigEndian.Uint32(old[4:]) != 2 {
		return nil, errKeystore
	}
	count, body := binary.BigEndian.Uint32(old[8:]), old[12:len(old)-sha1.Size]
	var kept []byte
	var number uint32
	for range count {
		length, alias, err := keystoreEntry(body)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(alias, keystoreAlias) {
			kept = append(kept, body[:length]...)
			number++
		}
		body = body[length:]
	}
	if len(body) != 0 {
		return nil, errKeystore
	}
	rest := []byte(certificates)
	for i := 0; ; i++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		kept = binary.BigEndian.AppendUint32(kept, 2) // a certificate that is trusted
		kept = appendText(kept, keystoreAlias+strconv.Itoa(i))
		kept = binary.BigEndian.AppendUint64(kept, 0) // when it was added
		kept = appendText(kept, "X.509")
		kept = binary.BigEndian.AppendUint32(kept, uint32(len(block.Bytes))) //nolint:gosec // part of a message of bounded size
		kept = append(kept, block.Bytes...)
		number++
	}
	changed := binary.BigEndian.AppendUint32(nil, keystoreMagic)
	changed = binary.BigEndian.AppendUint32(changed, 2)
	changed = binary.BigEndian.AppendUint32(changed, number)
	changed = append(changed, kept...)
	return append(changed, keystoreSum(changed)...), nil
}

// keystoreEntry measures the entry at the beginning of a keystore's body. Private
// keys are none of what a store of trust has.
func keystoreEntry(body []byte) (length int, alias string, err error) {
	read := func(n int) []byte {
		if err != nil || n < 0 || n > len(body)-length {
			err = errKeystore
			return make([]byte, min(max(n, 0), maxAlias))
		}
		length += n
		return body[length-n : length]
	}
	text := func() string { return string(read(int(binary.BigEndian.Uint16(read(2))))) }
	if kind := binary.BigEndian.Uint32(read(4)); kind != 2 {
		return 0, "", errKeystore
	}
	alias = text()
	read(8)
	text()
	read(int(binary.BigEndian.Uint32(read(4))))
	return length, alias, err
}

func appendText(to []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint16(to, uint16(len(text))), text...) //nolint:gosec // ours, and short
}

// keystoreSum is the checksum at a keystore's end.
func keystoreSum(data []byte) []byte {
	sum := sha1.New() //nolint:gosec // the format's
	for _, c := range utf16.Encode([]rune(keystorePassword)) {
		sum.Write([]byte{byte(c >> 8), byte(c)})
	}
	sum.Write([]byte("Mighty Aphrodite"))
	sum.Write(data)
	return sum.Sum(nil)
}
