package query

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/token"
	"github.com/akidb/akidb/segments/columns"
)

const (
	defaultK            = 10
	defaultTargetRecall = 0.95
	defaultScrollLimit  = 100
	defaultTimeout      = 30 * time.Second
	maxTimeout          = 10 * time.Minute
	maxNProbe           = 1 << 20
)

// SearchRequest is the body of POST …/search. Nil fields were not given.
type SearchRequest struct {
	Vector       httpapi.Vector `json:"vector"`
	ID           *string        `json:"id"`
	K            *int           `json:"k"`
	Filter       jsontext.Value `json:"filter"`
	Include      *[]string      `json:"include"`
	Exact        bool           `json:"exact"`
	TargetRecall *float64       `json:"target_recall"`
	NProbe       *int           `json:"nprobe"`
	Consistency  *string        `json:"consistency"`
	Token        *string        `json:"token"`
	AsOf         jsontext.Value `json:"as_of"`
	TimeoutMs    *int           `json:"timeout_ms"`
	Explain      bool           `json:"explain"`

	ScoreThreshold *float64 `json:"score_threshold"`
	GroupBy        *string  `json:"group_by"`
	GroupSize      *int     `json:"group_size"`
	MaxStoreGets   *int64   `json:"max_store_gets"`
}

// ask is a search request, checked as far as it can be without the collection.
type ask struct {
	search    // vector is nil when id is set
	id        *string
	freshness Freshness
	timeout   time.Duration
	explain   bool
	group     *grouping // nil for results one by one
	// maxStoreGets is nil for any number of reads of the store.
	maxStoreGets *int64

	filterText   jsontext.Value // nil for none
	filterLimits columns.FilterLimits
}

// first is what is searched for first: what is asked for, or more of it where
// rows are put into groups by their metadata.
func (a *ask) first() search {
	q := a.search
	if a.group != nil {
		q.k, q.want.metadata = a.group.rows(a.k), true
	}
	return q
}

// parse checks everything but the vector's dimension.
func (s *Service) parse(req *SearchRequest) (ask, error) {
	a := ask{id: req.ID, explain: req.Explain, timeout: defaultTimeout}
	a.vector, a.exact = req.Vector, req.Exact
	a.k, a.targetRecall = defaultK, defaultTargetRecall
	if (req.Vector == nil) == (req.ID == nil) {
		return a, httpapi.Unprocessable("vector_or_id", "vector", "a search needs exactly one of vector and id")
	}
	if req.K != nil {
		a.k = *req.K
	}
	if err := s.cfg.Limits.CheckK("k", a.k); err != nil {
		return a, err
	}
	if t := req.TargetRecall; t != nil {
		if !(*t > 0 && *t <= 1) {
			return a, httpapi.Unprocessable("out_of_range", "target_recall", "target_recall is %v, want more than 0 and at most 1", *t)
		}
		a.targetRecall = float32(*t)
	}
	if n := req.NProbe; n != nil {
		if *n < 1 || *n > maxNProbe {
			return a, httpapi.Unprocessable("out_of_range", "nprobe", "nprobe is %d, want 1 to %d", *n, maxNProbe)
		}
		a.nprobe = *n
	}
	if t := req.TimeoutMs; t != nil {
		if *t < 1 || int64(*t) > maxTimeout.Milliseconds() {
			return a, httpapi.Unprocessable("out_of_range", "timeout_ms", "timeout_ms is %d, want 1 to %d", *t, maxTimeout.Milliseconds())
		}
		a.timeout = time.Duration(*t) * time.Millisecond
	}
	var err error
	if a.want, err = parseInclude(req.Include); err != nil {
		return a, err
	}
	if a.filter, err = s.parseFilter(req.Filter); err != nil {
		return a, err
	}
	if a.filter != nil {
		a.filterText, a.filterLimits = req.Filter, s.filterLimits()
	}
	if t := req.ScoreThreshold; t != nil {
		threshold := float32(*t) // as scores are, so that one read from an answer is met by its row
		if math.IsInf(float64(threshold), 0) {
			return a, httpapi.Unprocessable("not_finite", "score_threshold", "score_threshold is %v, which does not fit a float32", *t)
		}
		a.threshold = &threshold
	}
	if a.group, err = s.parseGrouping(req.GroupBy, req.GroupSize, a.k); err != nil {
		return a, err
	}
	if n := req.MaxStoreGets; n != nil && *n < 0 {
		return a, httpapi.Unprocessable("out_of_range", "max_store_gets", "max_store_gets is %d, want 0 or more", *n)
	}
	a.maxStoreGets = req.MaxStoreGets
	a.freshness, err = parseFreshness(req.Consistency, req.Token, req.AsOf)
	return a, err
}

// parseLimit returns how many entries an answer may have.
func (s *Service) parseLimit(asked *int, otherwise int) (int, error) {
	limit := otherwise
	if asked != nil {
		limit = *asked
	}
	if limit < 1 || limit > s.cfg.Limits.BatchRows {
		return 0, httpapi.Unprocessable("out_of_range", "limit", "limit is %d, want 1 to %d", limit, s.cfg.Limits.BatchRows)
	}
	return limit, nil
}

// parseInclude defaults to metadata without vectors.
func parseInclude(include *[]string) (want included, err error) {
	if include == nil {
		return included{metadata: true}, nil
	}
	for i, what := range *include {
		switch what {
		case "metadata":
			want.metadata = true
		case "vector":
			want.vector = true
		case "version":
			want.version = true
		default:
			field := fmt.Sprintf("include[%d]", i)
			return want, httpapi.Unprocessable("unknown_include", field, "%s is %q, want \"metadata\", \"vector\" or \"version\"", field, what)
		}
	}
	return want, nil
}

func (s *Service) filterLimits() columns.FilterLimits {
	return columns.FilterLimits{Clauses: s.cfg.Limits.FilterClauses, Depth: s.cfg.Limits.FilterDepth}
}

func (s *Service) parseFilter(text jsontext.Value) (*filter, error) {
	if len(text) == 0 || text.Kind() == 'n' {
		return nil, nil
	}
	return newFilter(text, s.filterLimits())
}

// newFilter returns nil for a filter that all rows pass. It compacts text.
func newFilter(text jsontext.Value, limits columns.FilterLimits) (*filter, error) {
	if err := text.Compact(); err != nil {
		return nil, fmt.Errorf("compact filter: %w", err)
	}
	f, err := columns.ParseFilter(text, limits)
	var bad *columns.FilterError
	if errors.As(err, &bad) {
		return nil, httpapi.BadRequest("invalid_filter", bad.Path, "%s", bad.Error())
	}
	if err != nil {
		return nil, err
	}
	if f.MatchesAll() {
		return nil, nil
	}
	return &filter{f, text, sha256.Sum256(text)}, nil
}

// asOfAlone refuses an earlier version that is to be fresh.
var asOfAlone = httpapi.Unprocessable("ambiguous_freshness", "as_of", "as_of names a version; consistency and token ask for the newest")

// parseFreshness reads the three fields, each of which may be absent.
func parseFreshness(consistency, tok *string, asOf jsontext.Value) (f Freshness, err error) {
	f.Consistency = Latest
	if f.AsOf, err = parseMoment(asOf); err != nil {
		return f, err
	}
	if f.AsOf != nil && (consistency != nil || tok != nil) {
		return f, asOfAlone
	}
	if consistency != nil {
		switch c := Consistency(*consistency); c {
		case Eventual, Latest, Strong:
			f.Consistency = c
		default:
			return f, httpapi.Unprocessable("unknown_consistency", "consistency", "consistency is %q, want \"eventual\", \"latest\" or \"strong\"", *consistency)
		}
	}
	if tok != nil {
		t, err := token.Parse(*tok)
		if err != nil {
			return f, httpapi.Unprocessable("invalid_token", "token", "token is %.40q, which no write has answered", *tok)
		}
		f.Token = &t
	}
	return f, nil
}

// ScrollRequest is the body of POST …/vectors/scroll. Nil fields were not given.
type ScrollRequest struct {
	Filter      jsontext.Value `json:"filter"`
	OrderBy     *OrderBy       `json:"order_by"`
	Limit       *int           `json:"limit"`
	Cursor      *string        `json:"cursor"`
	Include     *[]string      `json:"include"`
	Consistency *string        `json:"consistency"`
	Token       *string        `json:"token"`
	AsOf        jsontext.Value `json:"as_of"`
}

// CountRequest is the body of POST …/vectors/count. Nil fields were not given.
type CountRequest struct {
	Filter      jsontext.Value `json:"filter"`
	Consistency *string        `json:"consistency"`
	Token       *string        `json:"token"`
	AsOf        jsontext.Value `json:"as_of"`
}

// FacetRequest is the body of POST …/facet. Nil fields were not given.
type FacetRequest struct {
	Key         *string        `json:"key"`
	Filter      jsontext.Value `json:"filter"`
	Limit       *int           `json:"limit"`
	Consistency *string        `json:"consistency"`
	Token       *string        `json:"token"`
	AsOf        jsontext.Value `json:"as_of"`
}

// A cursor is the last id of a page: positions of rows change, ids do not.
func encodeCursor(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

func decodeCursor(cursor string) (string, error) {
	id, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || !utf8.Valid(id) || len(id) == 0 {
		return "", httpapi.Unprocessable("invalid_cursor", "cursor", "cursor is %.40q, which no scroll has answered", cursor)
	}
	return string(id), nil
}
