// Package echo is a gRPC service for tests, with a call of each kind; its messages
// are strings.
package echo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The full names of the calls.
const (
	Unary  = "/cube.Echo/Unary"  // answers with what it is sent, and the trailer "sum" with its length
	Refuse = "/cube.Echo/Refuse" // answers with an error alone
	Count  = "/cube.Echo/Count"  // a stream of three
	Chat   = "/cube.Echo/Chat"   // an answer for each message, while the client sends on
)

// The descriptions of the streams, for clients too.
var (
	CountStream = grpc.StreamDesc{StreamName: "Count", Handler: count, ServerStreams: true}
	ChatStream  = grpc.StreamDesc{StreamName: "Chat", Handler: chat, ServerStreams: true, ClientStreams: true}
)

// Register adds the service to a server.
func Register(server *grpc.Server) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "cube.Echo",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}, {MethodName: "Refuse", Handler: refuse}},
		Streams:     []grpc.StreamDesc{CountStream, ChatStream},
	}, struct{}{})
}

func unary(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var in wrapperspb.StringValue
	if err := decode(&in); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("sum", fmt.Sprint(len(in.GetValue())))); err != nil {
		return nil, err
	}
	return &in, nil
}

func refuse(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
	return nil, status.Error(codes.FailedPrecondition, "not today")
}

func count(_ any, stream grpc.ServerStream) error {
	var in wrapperspb.StringValue
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	for n := range 3 {
		if err := stream.SendMsg(wrapperspb.String(fmt.Sprint(in.GetValue(), n))); err != nil {
			return err
		}
	}
	stream.SetTrailer(metadata.Pairs("sum", "3"))
	return nil
}

func chat(_ any, stream grpc.ServerStream) error {
	for {
		var in wrapperspb.StringValue
		if err := stream.RecvMsg(&in); errors.Is(err, io.EOF) {
			return status.Error(codes.DataLoss, "that was all")
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&in); err != nil {
			return err
		}
	}
}
