package httpapi

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// List is an array in a request of which no more than Most elements are decoded:
// the rest is only counted. A body of `{},{},…` takes three bytes an element,
// and its elements may take hundreds, so that a list must be refused for its
// length before it is built. Set Most before decoding; whoever reads Items
// checks Count first.
type List[T any] struct {
	Most  int
	Items []T
	Count int  // elements there were, those not decoded included
	Given bool // the field was there, and not null
}

// UnmarshalJSONFrom implements the json package's UnmarshalerFrom.
func (l *List[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	switch kind := dec.PeekKind(); kind {
	case 'n':
		_, err := dec.ReadToken()
		return err
	case '[':
	case jsontext.KindInvalid:
		_, err := dec.ReadToken()
		return err
	default:
		return BadRequest("wrong_type", "", "is %s, want an array", kindName(kind))
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	l.Given = true
	for ; dec.PeekKind() != ']'; l.Count++ {
		if l.Count >= l.Most {
			if err := dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		var item T
		if err := json.UnmarshalDecode(dec, &item); err != nil {
			return err
		}
		l.Items = append(l.Items, item)
	}
	_, err := dec.ReadToken()
	return err
}
