// Package token is the receipt of a write: handed to clients, who give it back
// with a read that must reflect the write. To them it is opaque.
package token

import (
	"fmt"
	"strconv"
	"strings"
)

// Token says where a write stands in its collection. Sequence numbers only
// compare within an epoch's line of descent: an operator who takes a collection
// over with loss starts a later epoch at an earlier number.
type Token struct {
	Epoch uint64 // of the writer that acknowledged
	Seq   uint64 // of the write's last row
}

// String is the form clients see: "3.1234".
func (t Token) String() string {
	return strconv.FormatUint(t.Epoch, 10) + "." + strconv.FormatUint(t.Seq, 10)
}

// Parse is the inverse of String and accepts nothing else.
func Parse(s string) (Token, error) {
	epoch, seq, ok := strings.Cut(s, ".")
	t := Token{}
	if ok {
		var err1, err2 error
		t.Epoch, err1 = strconv.ParseUint(epoch, 10, 64)
		t.Seq, err2 = strconv.ParseUint(seq, 10, 64)
		ok = err1 == nil && err2 == nil && t.String() == s
	}
	if !ok {
		return Token{}, fmt.Errorf("parse token %.40q: not one that a write answered", s)
	}
	return t, nil
}
