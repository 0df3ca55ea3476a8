package model

import (
	"context"
	"testing"
)

// TestKVMemory sees what is counted, and that the limit holds.
func TestKVMemory(t *testing.T) {
	m := goldenModel(t, golden(t, "llama"), LoadOptions{Jobs: 1})
	other := goldenModel(t, golden(t, "llama"), LoadOptions{Jobs: 1})
	page := int64(m.PageBytes())
	k := NewKVMemory(5*page + page/2)
	m.SetKVMemory(k)
	other.SetKVMemory(k)
	usage := func(what string, busy, idle int64) {
		t.Helper()
		if b, i := k.Usage(); b != busy*page || i != idle*page {
			t.Errorf("%s: %d and %d bytes, want %d and %d pages of %d", what, b, i, busy, idle, page)
		}
	}
	ids := sequence("kv", 3*pageLen, 96)
	c := m.NewCache()
	if !c.Reserve(len(ids)) {
		t.Fatal("no room for 3 pages of 5")
	}
	if err := m.Forward(context.Background(), []Step{{Cache: c, Tokens: ids}}); err != nil {
		t.Fatal(err)
	}
	usage("one", 3, 0)
	f := c.Fork(2*pageLen + 1) // shares two pages and copies one
	usage("fork", 4, 0)
	o := other.NewCache()
	if o.Reserve(2 * pageLen) {
		t.Error("a sixth page")
	}
	usage("refused", 4, 0)
	if !o.Reserve(pageLen) || f.Reserve(4*pageLen) || c.TryFork(1) != nil {
		t.Error("the fifth page is not the last")
	}
	usage("full", 5, 0)
	c.SetIdle()
	usage("idle", 4, 1)
	g := c.TryFork(pageLen) // whole pages cost nothing
	if g == nil {
		t.Fatal("no fork of whole pages")
	}
	usage("shared", 4, 1)
	c.Free()
	usage("idle freed", 4, 0)
	g.Free()
	f.Free()
	usage("freed", 1, 0)
	// What one model has to spare makes room for another's pages.
	if !o.Reserve(5 * pageLen) {
		t.Error("no room for 5 pages")
	}
	if got := k.used + k.spare; got > k.limit {
		t.Errorf("%d bytes exist, limit %d", got, k.limit)
	}
	// Forward takes what it needs.
	x := m.NewCache()
	if err := m.Forward(context.Background(), []Step{{Cache: x, Tokens: ids[:1]}}); err != nil {
		t.Error(err)
	}
	usage("over", 6, 0)
	x.Free()
	o.Free()
	usage("end", 0, 0)
}
