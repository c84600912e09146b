package gvisor

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// LinkLimits bound what one sandbox sends and receives, so that its neighbours
// have their part of the machine's network. 0 is without a bound.
type LinkLimits struct {
	Bandwidth      int // Mbit/s in each direction
	Connections    int // that it has opened and that are open, of all protocols
	ConnectionRate int // new ones a second
}

// What a sandbox sends and receives waits for its turn: shape.go. What gets past
// that is dropped, and new connections are refused, by a table beside that of the
// policies. The rules are one each for all sandboxes, which are told apart by
// their interface: nothing is to be done for a new one.
// In nftables' language, P being the prefix of the interfaces' names:
//
//	chain FORM {                      type filter hook prerouting priority mangle
//	  iifname "P*" ct state new counter
//	  iifname "P*" update @sent { iif limit rate over 5/4 BANDWIDTH } drop
//	  iifname "P*" ct state new update @opened { iif limit rate over RATE/second } jump limited
//	  iifname "P*" ct state new add @open { iif ct count over CONNECTIONS } jump limited
//	}
//	chain limited {
//	  fib saddr . iif oif missing drop      no answer to whom the sandbox names
//	  counter; log…; meta l4proto tcp reject with tcp reset; reject with icmp admin-prohibited
//	}
//
// The table stays when a server takes over from another with the same limits, for
// the kernel counts open connections from the rule's beginning. So the base
// chain's name says what they are.

const (
	limitedChain = "limited"
	limitsSuffix = "-limits"
)

func limitsTable(name string) string { return name + limitsSuffix }

// form names limits, and the form of their rules.
func (l LinkLimits) form() string {
	return fmt.Sprintf("three-%d-%d-%d", l.Bandwidth, l.Connections, l.ConnectionRate)
}

// bytes is the bandwidth in bytes a second.
func (l LinkLimits) bytes() uint64 { return uint64(l.Bandwidth) * 1_000_000 / 8 } //nolint:gosec // settings are not negative

// burst is how many bytes may come at once: 50 ms of them, and never less than
// four of the largest packets that a sandbox's kernel sends.
func (l LinkLimits) burst() uint32 { return uint32(min(max(l.bytes()/20, 256<<10), 64<<20)) } //nolint:gosec // bounded

// installLimits puts the table in place, unless it is there as it must be.
func installLimits(table, interfacePrefix string, limits LinkLimits) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: limitsTable(table), Family: nftables.TableFamilyINet}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	for _, chain := range chains {
		if chain.Table.Name == t.Name && chain.Name == limits.form() {
			return nil
		}
	}
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	if limits == (LinkLimits{}) {
		return c.Flush()
	}
	c.AddTable(t)
	limited := c.AddChain(&nftables.Chain{Name: limitedChain, Table: t})
	rule(c, limited, sourceNotRoutedBack(), verdict(expr.VerdictDrop))
	rule(c, limited, []expr.Any{&expr.Counter{}})
	newTeller(c, t)(limited, refusedByLimit)
	reject(c, limited)

	from := matchInterface(expr.MetaKeyIIFNAME, interfacePrefix, expr.CmpOpEq)
	base := chain(c, t, limits.form(), nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle)
	rule(c, base, from, begins(), []expr.Any{&expr.Counter{}})
	add := func(set string, timeout time.Duration, over expr.Any, parts ...[]expr.Any) {
		own := &nftables.Set{Table: t, Name: set, KeyType: nftables.TypeIFIndex, Dynamic: true, Size: maxLinks, HasTimeout: timeout > 0, Timeout: timeout}
		err = errors.Join(err, c.AddSet(own, nil))
		rule(c, base, append([][]expr.Any{from}, append(parts[:len(parts)-1:len(parts)-1], eachLink(own, over), parts[len(parts)-1])...)...)
	}
	if limits.Bandwidth > 0 {
		add("sent", forgetAfter, &expr.Limit{Type: expr.LimitTypePktBytes, Rate: limits.bytes() * 5 / 4, Unit: expr.LimitTimeSecond, Burst: 2 * limits.burst(), Over: true},
			verdict(expr.VerdictDrop))
	}
	if limits.ConnectionRate > 0 {
		rate := uint64(limits.ConnectionRate)                                                                                                          //nolint:gosec // not negative
		add("opened", forgetAfter, &expr.Limit{Type: expr.LimitTypePkts, Rate: rate, Unit: expr.LimitTimeSecond, Burst: uint32(2 * rate), Over: true}, //nolint:gosec // bounded by the settings
			begins(), jump(limitedChain))
	}
	if limits.Connections > 0 {
		add("open", 0, &expr.Connlimit{Count: uint32(limits.Connections), Flags: expr.NFT_CONNLIMIT_F_INV}, //nolint:gosec // bounded by the settings
			begins(), jump(limitedChain))
	}
	if err != nil {
		return err
	}
	return c.Flush()
}

const (
	// forgetAfter is when a bucket is full again whatever it was.
	forgetAfter = time.Minute
	// maxLinks bounds the sets; the largest network has as many sandboxes.
	maxLinks = 1 << 20
)

// eachLink applies an expression to each interface by itself.
func eachLink(set *nftables.Set, what expr.Any) []expr.Any {
	operation := uint32(unix.NFT_DYNSET_OP_UPDATE)
	if !set.HasTimeout {
		operation = unix.NFT_DYNSET_OP_ADD
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: 1},
		&expr.Dynset{SrcRegKey: 1, SetName: set.Name, SetID: set.ID, Operation: operation, Exprs: []expr.Any{what}},
	}
}

// begins is true for a packet that would begin a connection.
func begins() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// reject answers as who has nothing to hide: TCP with a reset.
func reject(c *nftables.Conn, in *nftables.Chain) {
	rule(c, in, transport(unix.IPPROTO_TCP), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	rule(c, in, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}})
}
