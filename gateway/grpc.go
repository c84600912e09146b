package gateway

import (
	"maps"
	"net/http"
	"strings"
)

// isGRPC tells gRPC from what any HTTP carries, gRPC-Web among it: by its content
// type, which is fixed, and that both ends speak HTTP/2.
func isGRPC(header http.Header, protoMajor int) bool {
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	kind, _, _ = strings.Cut(kind, "+")
	return protoMajor == 2 && strings.TrimSpace(kind) == "application/grpc"
}

// receiveGRPC gives an answer that is over with its headers the form of one that
// is not: gRPC's clients look for its status in the frame that ends the stream, and
// ReverseProxy may send headers before it knows that nothing else comes.
func receiveGRPC(resp *http.Response) {
	if resp.ContentLength != 0 || !isGRPC(resp.Header, resp.ProtoMajor) || resp.Header.Get("Grpc-Status") == "" {
		return
	}
	resp.Trailer = maps.Clone(resp.Header)
	resp.Trailer.Del("Content-Type")
	resp.Trailer.Del("Date")
	resp.Header = http.Header{"Content-Type": resp.Header["Content-Type"]}
}
