package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// serveNames answers that every name under the domain is this machine, and that
// no other exists. It is on an address of loopback that nothing else uses, with
// the port that resolvers cannot be told to change. Close ends it.
func serveNames() (net.PacketConn, error) {
	var socket net.PacketConn
	err := errors.New("no address")
	for last := 153; last < 250 && err != nil; last++ {
		socket, err = net.ListenPacket("udp", fmt.Sprintf("127.0.0.%d:53", last))
	}
	if err != nil {
		return nil, err
	}
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := answerName(buffer[:n]); answer != nil {
				_, _ = socket.WriteTo(answer, from)
			}
		}
	}()
	return socket, nil
}

// answerName answers one question, nil for what is none.
func answerName(question []byte) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(question)
	if err != nil || header.Response {
		return nil
	}
	q, err := parser.Question()
	if err != nil {
		return nil
	}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	name := strings.ToLower(q.Name.String())
	switch {
	case name != domain+"." && !strings.HasSuffix(name, "."+domain+"."):
		answer.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		answer.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	packed, err := answer.Pack()
	if err != nil {
		return nil
	}
	return packed
}
