package gateway

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"cube/envd/gen/filesystem"
	"cube/envd/gen/filesystem/filesystemconnect"
	"cube/envd/gen/process"
	"cube/envd/gen/process/processconnect"
)

// reader knows one kind of request to the agent. Messages are read with what the
// agent reads them with, so that both understand the same.
type reader struct {
	action  Action
	message func() proto.Message // of an RPC; nil for /files
}

var rpcReaders = map[string]reader{
	processconnect.ProcessStartProcedure:               {ProcessStarted, message[process.StartRequest]},
	processconnect.ProcessConnectProcedure:             {ProcessConnected, message[process.ConnectRequest]},
	processconnect.ProcessSendInputProcedure:           {ProcessInput, message[process.SendInputRequest]},
	processconnect.ProcessStreamInputProcedure:         {ProcessInput, message[process.StreamInputRequest]},
	processconnect.ProcessSendSignalProcedure:          {ProcessSignalled, message[process.SendSignalRequest]},
	filesystemconnect.FilesystemStatProcedure:          {FileLooked, message[filesystem.StatRequest]},
	filesystemconnect.FilesystemMakeDirProcedure:       {DirectoryMade, message[filesystem.MakeDirRequest]},
	filesystemconnect.FilesystemMoveProcedure:          {FileMoved, message[filesystem.MoveRequest]},
	filesystemconnect.FilesystemListDirProcedure:       {DirectoryListed, message[filesystem.ListDirRequest]},
	filesystemconnect.FilesystemRemoveProcedure:        {FileRemoved, message[filesystem.RemoveRequest]},
	filesystemconnect.FilesystemWatchDirProcedure:      {DirectoryWatched, message[filesystem.WatchDirRequest]},
	filesystemconnect.FilesystemCreateWatcherProcedure: {DirectoryWatched, message[filesystem.CreateWatcherRequest]},
}

func message[M any, P interface {
	*M
	proto.Message
}]() proto.Message {
	return P(new(M))
}

// readerOf finds what a request does, by the path as the agent's router reads
// it: one that is not clean is redirected there, and does nothing.
func readerOf(r *http.Request) (reader, bool) {
	if r.URL.Path == composePath {
		return reader{action: FileComposed}, r.Method == http.MethodPost
	}
	if r.URL.Path == "/files" {
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			return reader{action: FileRead}, true
		case http.MethodPost:
			return reader{action: FileWritten}, true
		}
		return reader{}, false
	}
	read, found := rpcReaders[r.URL.Path]
	return read, found && r.Method == http.MethodPost
}

// needsBody tells whether the body has something to tell: that of a file whose
// path stands in the query has not.
func (d reader) needsBody(r *http.Request) bool {
	return d.message != nil || d.action == FileComposed || r.URL.Query().Get("path") == ""
}

// details adds what the request says to what is known of it. body is what was
// seen of its body.
func (d reader) details(o *Operation, r *http.Request, body []byte, whole bool) {
	var err error
	switch {
	case d.action == FileComposed:
		err = composeDetails(o, body)
	case d.message == nil:
		err = fileDetails(o, r, body, whole)
	default:
		o.User = accountOf(r.Header)
		err = d.rpcDetails(o, r.Header, body, whole)
	}
	o.Incomplete = err != nil
}

var errIncomplete = errors.New("what was seen of the request is not enough")

// composePath is where parts become one file.
const composePath = "/files/compose"

// composeDetails reads a request for it: the parts, then what they become.
func composeDetails(o *Operation, body []byte) error {
	var request struct {
		SourcePaths []string `json:"source_paths"`
		Destination string   `json:"destination"`
		Username    string   `json:"username"`
	}
	// As the agent reads it: the first value, whatever follows.
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&request); err != nil {
		return err
	}
	o.User, o.Paths = request.Username, append(request.SourcePaths, request.Destination)
	return nil
}

// fileDetails reads a request for /files.
func fileDetails(o *Operation, r *http.Request, body []byte, whole bool) error {
	query := r.URL.Query()
	o.User = query.Get("username")
	if path := query.Get("path"); path != "" {
		o.Paths = []string{path}
		return nil
	}
	kind, parameters, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if o.Action != FileWritten || kind != "multipart/form-data" {
		return errIncomplete
	}
	content, unzipped := unzip(r.Header.Get("Content-Encoding"), body)
	form := multipart.NewReader(bytes.NewReader(content), parameters["boundary"])
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) && whole && unzipped && len(o.Paths) > 0 {
			return nil
		}
		if err != nil {
			return errIncomplete
		}
		if part.FormName() != "file" {
			continue
		}
		// Part.FileName cuts the directories off.
		_, disposition, _ := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
		o.Paths = append(o.Paths, disposition["filename"])
	}
}

// rpcDetails reads a message of Connect, gRPC or gRPC-Web: the only one, or the
// first of a stream.
func (d reader) rpcDetails(o *Operation, header http.Header, body []byte, whole bool) error {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return err
	}
	var codec, encoding string
	switch protocol, suffix, _ := strings.Cut(kind, "+"); protocol {
	case "application/json", "application/proto":
		codec, encoding = strings.TrimPrefix(protocol, "application/"), header.Get("Content-Encoding")
		if !whole {
			return errIncomplete
		}
	case "application/connect":
		codec, encoding = suffix, header.Get("Connect-Content-Encoding")
		body, encoding, err = firstFrame(body, encoding)
	case "application/grpc", "application/grpc-web":
		codec, encoding = suffix, header.Get("Grpc-Encoding")
		body, encoding, err = firstFrame(body, encoding)
	default:
		return errIncomplete
	}
	if err != nil {
		return err
	}
	body, whole = unzip(encoding, body)
	if !whole {
		return errIncomplete
	}
	m := d.message()
	switch codec {
	case "json":
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(body, m)
	case "proto", "": // gRPC's default
		err = proto.Unmarshal(body, m)
	default:
		return errIncomplete
	}
	if err != nil {
		return err
	}
	o.take(m)
	return nil
}

// firstFrame returns the first message of a stream: after a byte of flags and
// its length. encoding is "" if it is not compressed.
func firstFrame(stream []byte, encoding string) (frame []byte, _ string, _ error) {
	const prefix, compressed = 5, 1
	if len(stream) < prefix {
		return nil, "", errIncomplete
	}
	length := binary.BigEndian.Uint32(stream[1:prefix])
	if uint64(length) > uint64(len(stream)-prefix) {
		return nil, "", errIncomplete
	}
	if stream[0]&compressed == 0 {
		encoding = ""
	}
	return stream[prefix : prefix+int(length)], encoding, nil
}

// unzip returns what is in a body, up to maxPeek, and whether that is all.
func unzip(encoding string, body []byte) (content []byte, whole bool) {
	switch encoding {
	case "", "identity":
		return body, true
	case "gzip":
	default:
		return nil, false
	}
	zipped, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, false
	}
	content, err = io.ReadAll(io.LimitReader(zipped, maxPeek+1))
	return content[:min(len(content), maxPeek)], err == nil && len(content) <= maxPeek
}

// accountOf returns the account inside that a message is for, as the agent finds
// it: the user of basic authentication, with a colon after it or without.
func accountOf(header http.Header) string {
	scheme, encoded, _ := strings.Cut(header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return ""
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(string(decoded), ":")
	return name
}

// take keeps of a message what may be kept.
func (o *Operation) take(m proto.Message) {
	switch m := m.(type) {
	case *process.StartRequest:
		o.Command = append([]string{m.GetProcess().GetCmd()}, m.GetProcess().GetArgs()...)
	case *process.ConnectRequest:
		o.Process = selected(m.GetProcess())
	case *process.SendInputRequest:
		o.Process = selected(m.GetProcess())
	case *process.StreamInputRequest:
		o.Process = selected(m.GetStart().GetProcess())
	case *process.SendSignalRequest:
		o.Process, o.Signal = selected(m.GetProcess()), m.GetSignal().String()
	case *filesystem.StatRequest:
		o.Paths = []string{m.GetPath()}
	case *filesystem.MakeDirRequest:
		o.Paths = []string{m.GetPath()}
	case *filesystem.MoveRequest:
		o.Paths = []string{m.GetSource(), m.GetDestination()}
	case *filesystem.ListDirRequest:
		o.Paths = []string{m.GetPath()}
	case *filesystem.RemoveRequest:
		o.Paths = []string{m.GetPath()}
	}
}

func selected(s *process.ProcessSelector) string {
	switch which := s.GetSelector().(type) {
	case *process.ProcessSelector_Pid:
		return fmt.Sprintf("pid %d", which.Pid)
	case *process.ProcessSelector_Tag:
		return "tag " + which.Tag
	}
	return ""
}
