// Inside is the server that the tests start in a sandbox: on port 8000 HTTP and
// WebSocket, on port 9000 gRPC, by gRPC's own module, without TLS.
package main

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // RFC 6455 has it
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc"

	"cube/e2e/inside/echo"
)

func main() {
	log.SetFlags(0)
	listener, err := net.Listen("tcp", "127.0.0.1:9000")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	echo.Register(server)
	go func() { log.Fatal(server.Serve(listener)) }()
	http.HandleFunc("/upload", upload)
	http.HandleFunc("/ws", webSocket)
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ready") })
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", nil))
}

// upload counts what it is sent, and keeps nothing.
func upload(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	fmt.Fprintln(w, n, err)
}

const (
	textFrame  = 1
	closeFrame = 8
	pingFrame  = 9
	pongFrame  = 10
)

// webSocket echoes text, answers pings, and closes with the code that the client
// closes with (RFC 6455). It takes short frames that are whole.
func webSocket(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 has it
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), strings.TrimSpace(r.Header.Get("Sec-WebSocket-Protocol")))
	for {
		code, data, err := readFrame(buffered.Reader)
		if err != nil {
			return
		}
		switch code {
		case textFrame, closeFrame:
		case pingFrame:
			code = pongFrame
		default:
			continue
		}
		if _, err := conn.Write(append([]byte{0x80 | code, byte(len(data))}, data...)); err != nil || code == closeFrame {
			return
		}
	}
}

func readFrame(r *bufio.Reader) (code byte, data []byte, err error) {
	var head [6]byte // of a masked frame that is shorter than 126 bytes
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	data = make([]byte, head[1]&0x7f)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, err
	}
	mask := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(head[2:]))
	for i := range data {
		data[i] ^= mask[i%4]
	}
	return head[0] & 0x0f, data, nil
}
