package cache

// Stats are what happened since the start. Every question that got an answer or
// an error is one of Hits, Misses and Coalesced.
type Stats struct {
	Hits      uint64 // answered from memory
	Misses    uint64 // questions to the decider
	Coalesced uint64 // answered with the answer to somebody else's question
	Stored    uint64 // answers that were remembered
	Purges    uint64
	Entries   int // remembered now, some that are just out of date included
}

// Stats reads the counters. It is cheap, and they need not be of one moment.
func (c *Cache) Stats() Stats {
	return Stats{
		Hits:      c.hits.Load(),
		Misses:    c.misses.Load(),
		Coalesced: c.coalesced.Load(),
		Stored:    c.stored.Load(),
		Purges:    c.purges.Load(),
		Entries:   c.allowed.EstimatedSize() + c.refused.EstimatedSize(),
	}
}
