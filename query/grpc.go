package query

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/grpcapi"
	"github.com/akidb/akidb/internal/httpapi"
)

// RegisterGRPC adds the methods that read: what Register adds for REST.
func (s *Service) RegisterGRPC(r *grpcapi.Router) {
	searches := grpcapi.Bound{Field: "searches", Check: func(_ string, count int) *httpapi.Error {
		e, _ := errors.AsType[*httpapi.Error](s.checkBatch(count))
		return e
	}}
	registerRead(r, akidbv1.CollectionService_ListCollections_FullMethodName, s.grpcListCollections)
	registerRead(r, akidbv1.CollectionService_GetCollection_FullMethodName, s.grpcGetCollection)
	registerRead(r, akidbv1.VectorService_GetVector_FullMethodName, s.grpcGetVector)
	registerRead(r, akidbv1.VectorService_Scroll_FullMethodName, s.grpcScroll)
	registerRead(r, akidbv1.VectorService_Count_FullMethodName, s.grpcCount)
	registerRead(r, akidbv1.VectorService_Facet_FullMethodName, s.grpcFacet)
	registerRead(r, akidbv1.SearchService_Search_FullMethodName, s.grpcSearch)
	registerRead(r, akidbv1.SearchService_SearchBatch_FullMethodName, s.grpcSearchBatch, searches)
	registerRead(r, akidbv1.SearchService_Recall_FullMethodName, s.grpcRecall)
	registerRead(r, akidbv1.AdminService_Warm_FullMethodName, s.grpcWarm, grpcapi.Bound{Field: "parts", Check: checkParts})
}

// registerRead has the answer say of which state it is, as answerJSON does.
func registerRead[Req, Resp proto.Message](r *grpcapi.Router, method string, h func(context.Context, Req) (Resp, Served, error), bounds ...grpcapi.Bound) {
	grpcapi.Unary(r, method, func(ctx context.Context, req Req) (Resp, error) {
		resp, served, err := h(ctx, req)
		served.headers(func(name, value string) { grpcapi.SetHeader(ctx, name, value) })
		return resp, err
	}, bounds...)
}

func (s *Service) grpcListCollections(ctx context.Context, _ *akidbv1.ListCollectionsRequest) (*akidbv1.ListCollectionsResponse, Served, error) {
	infos, err := s.ListCollections(ctx)
	out := &akidbv1.ListCollectionsResponse{}
	for _, i := range infos {
		out.Collections = append(out.Collections, grpcapi.Collection(*i))
	}
	return out, Served{}, err
}

func (s *Service) grpcGetCollection(ctx context.Context, req *akidbv1.GetCollectionRequest) (*akidbv1.GetCollectionResponse, Served, error) {
	want, err := parseFreshness(req.Consistency, req.Token, quoted(req.AsOf))
	if err != nil {
		return nil, Served{}, err
	}
	described, served, err := s.GetCollection(ctx, req.Collection, want)
	if err != nil {
		return nil, served, err
	}
	return &akidbv1.GetCollectionResponse{Collection: grpcapi.Collection(*described)}, served, nil
}

func (s *Service) grpcGetVector(ctx context.Context, req *akidbv1.GetVectorRequest) (*akidbv1.GetVectorResponse, Served, error) {
	want, err := parseFreshness(req.Consistency, req.Token, quoted(req.AsOf))
	if err != nil {
		return nil, Served{}, err
	}
	row, served, err := s.GetVector(ctx, req.Collection, req.Id, want)
	if err != nil {
		return nil, served, err
	}
	return &akidbv1.GetVectorResponse{Vector: rowMessage(row)}, served, nil
}

func rowMessage(r *Row) *akidbv1.Row {
	return &akidbv1.Row{Id: r.ID, Vector: r.Vector, Metadata: metadataText(r.Metadata), Version: given(r.Version)}
}

func (s *Service) grpcScroll(ctx context.Context, req *akidbv1.ScrollRequest) (*akidbv1.ScrollResponse, Served, error) {
	filter, err := filterValue(req.Filter)
	if err != nil {
		return nil, Served{}, err
	}
	page, served, err := s.Scroll(ctx, req.Collection, &ScrollRequest{
		Filter: filter, OrderBy: orderBy(req.OrderBy), Limit: number[int](req.Limit), Cursor: req.Cursor, Include: includeNames(req.Include),
		Consistency: req.Consistency, Token: req.Token, AsOf: quoted(req.AsOf),
	})
	if err != nil {
		return nil, served, err
	}
	out := &akidbv1.ScrollResponse{NextCursor: page.Next, Vectors: make([]*akidbv1.Row, len(page.Vectors))}
	for i := range page.Vectors {
		out.Vectors[i] = rowMessage(&page.Vectors[i])
	}
	return out, served, nil
}

func (s *Service) grpcCount(ctx context.Context, req *akidbv1.CountRequest) (*akidbv1.CountResponse, Served, error) {
	filter, err := filterValue(req.Filter)
	if err != nil {
		return nil, Served{}, err
	}
	count, served, err := s.Count(ctx, req.Collection, &CountRequest{Filter: filter, Consistency: req.Consistency, Token: req.Token, AsOf: quoted(req.AsOf)})
	if err != nil {
		return nil, served, err
	}
	return &akidbv1.CountResponse{Count: count.Count}, served, nil
}

func orderBy(m *akidbv1.OrderBy) *OrderBy {
	if m == nil {
		return nil
	}
	return &OrderBy{Key: m.Key, Direction: m.Direction}
}

func (s *Service) grpcFacet(ctx context.Context, req *akidbv1.FacetRequest) (*akidbv1.FacetResponse, Served, error) {
	filter, err := filterValue(req.Filter)
	if err != nil {
		return nil, Served{}, err
	}
	facet, served, err := s.Facet(ctx, req.Collection, &FacetRequest{
		Key: req.Key, Filter: filter, Limit: number[int](req.Limit), Consistency: req.Consistency, Token: req.Token, AsOf: quoted(req.AsOf),
	})
	if err != nil {
		return nil, served, err
	}
	out := &akidbv1.FacetResponse{}
	for _, hit := range facet.Hits {
		out.Hits = append(out.Hits, &akidbv1.FacetHit{Value: string(hit.Value), Count: hit.Count})
	}
	return out, served, nil
}

func (s *Service) grpcSearch(ctx context.Context, req *akidbv1.SearchRequest) (*akidbv1.SearchResponse, Served, error) {
	search, err := searchOf(req)
	if err != nil {
		return nil, Served{}, err
	}
	resp, served, err := s.Search(ctx, req.Collection, search)
	if err != nil {
		return nil, served, err
	}
	return searchMessage(resp), served, nil
}

func (s *Service) grpcSearchBatch(ctx context.Context, req *akidbv1.SearchBatchRequest) (*akidbv1.SearchBatchResponse, Served, error) {
	searches := make([]SearchRequest, len(req.Searches))
	for i, one := range req.Searches {
		field := fmt.Sprintf("searches[%d]", i)
		if one.Collection != "" {
			return nil, Served{}, httpapi.Unprocessable("ambiguous_body", field+".collection", "%s.collection is %.80q; a batch is of one collection, which it names itself", field, one.Collection)
		}
		search, err := searchOf(one)
		if err != nil {
			return nil, Served{}, below(field, err)
		}
		searches[i] = *search
	}
	responses, served, err := s.SearchBatch(ctx, req.Collection, searches)
	if err != nil {
		return nil, served, err
	}
	out := &akidbv1.SearchBatchResponse{Responses: make([]*akidbv1.SearchResponse, len(responses))}
	for i := range responses {
		out.Responses[i] = searchMessage(&responses[i])
	}
	return out, served, nil
}

func (s *Service) grpcRecall(ctx context.Context, req *akidbv1.RecallRequest) (*akidbv1.RecallResponse, Served, error) {
	filter, err := filterValue(req.Filter)
	if err != nil {
		return nil, Served{}, err
	}
	m, served, err := s.Recall(ctx, req.Collection, &RecallRequest{
		Sample: number[int](req.Sample), K: number[int](req.K), Filter: filter, TargetRecall: req.TargetRecall, NProbe: number[int](req.Nprobe),
		Consistency: req.Consistency, Token: req.Token, AsOf: quoted(req.AsOf), TimeoutMs: number[int](req.TimeoutMs),
	})
	if err != nil {
		return nil, served, err
	}
	return &akidbv1.RecallResponse{
		Recall: m.Recall, Confidence_95: m.Confidence[:], Min: m.Min, P1: m.P1, P5: m.P5, P50: m.P50, Sampled: int64(m.Sampled), K: int64(m.K),
		TargetRecall: m.TargetRecall, TookMs: m.TookMs, ManifestVersion: m.ManifestVersion, Usage: usageMessage(&m.Usage),
	}, served, nil
}

// mostParts is far more than there are.
const mostParts = 100

func checkParts(field string, count int) *httpapi.Error {
	if count > mostParts {
		return httpapi.Unprocessable("invalid_part", field, "%s has %d entries, want at most %d", field, count, mostParts)
	}
	return nil
}

func (s *Service) grpcWarm(ctx context.Context, req *akidbv1.WarmRequest) (*akidbv1.WarmResponse, Served, error) {
	w, served, err := s.Warm(ctx, req.Collection, &WarmRequest{Parts: req.Parts, Wait: req.Wait})
	if err != nil {
		return nil, served, err
	}
	return &akidbv1.WarmResponse{
		CollectionId: w.CollectionID, Parts: w.Parts, Tier: string(w.Tier), SegmentCount: int64(w.SegmentCount),
		PostingsBytes: w.PostingsBytes, ResidentBytes: w.ResidentBytes, Condition: string(w.Condition),
	}, served, nil
}

// searchOf is what a message asks for. What JSON cannot say, a number that is
// none, is refused here; all else is checked where REST's is.
func searchOf(req *akidbv1.SearchRequest) (*SearchRequest, error) {
	for i, x := range req.Vector {
		if x-x != 0 {
			field := fmt.Sprintf("vector[%d]", i)
			return nil, httpapi.Unprocessable("not_finite", field, "%s is not finite", field)
		}
	}
	if t := req.ScoreThreshold; t != nil && *t-*t != 0 {
		return nil, httpapi.Unprocessable("not_finite", "score_threshold", "score_threshold is not finite")
	}
	filter, err := filterValue(req.Filter)
	if err != nil {
		return nil, err
	}
	return &SearchRequest{
		Vector: req.Vector, ID: req.Id, K: number[int](req.K), Filter: filter, Include: includeNames(req.Include),
		Exact: req.Exact, TargetRecall: req.TargetRecall, NProbe: number[int](req.Nprobe),
		Consistency: req.Consistency, Token: req.Token, AsOf: quoted(req.AsOf), TimeoutMs: number[int](req.TimeoutMs), Explain: req.Explain,
		ScoreThreshold: req.ScoreThreshold, GroupBy: req.GroupBy, GroupSize: number[int](req.GroupSize), MaxStoreGets: req.MaxStoreGets,
	}, nil
}

func searchMessage(r *SearchResponse) *akidbv1.SearchResponse {
	out := &akidbv1.SearchResponse{
		Results: resultMessages(r.Results), TookMs: r.TookMs, ManifestVersion: r.ManifestVersion, Usage: usageMessage(&r.Usage),
	}
	for _, g := range r.Groups {
		out.Groups = append(out.Groups, &akidbv1.Group{Group: string(g.Value), Results: resultMessages(g.Results)})
	}
	for _, st := range r.Explain {
		out.Explain = append(out.Explain, &akidbv1.Stage{Name: st.Name, TookMs: st.TookMs, Rounds: st.Rounds, StoreGets: st.StoreGets, StoreBytes: st.StoreBytes, Detail: st.Detail})
	}
	return out
}

func usageMessage(u *usage) *akidbv1.Usage {
	return &akidbv1.Usage{
		Segments: int64(u.Segments), ListsProbed: int64(u.ListsProbed), CodesScanned: int64(u.CodesScanned), Reranked: int64(u.Reranked),
		StoreGets: u.StoreGets, StoreBytes: u.StoreBytes, Rounds: u.Rounds, CacheHitRatio: u.HitRatio, Cache: string(u.Cache),
	}
}

func resultMessages(results []Result) []*akidbv1.Result {
	out := make([]*akidbv1.Result, len(results))
	for i, r := range results {
		out[i] = &akidbv1.Result{Id: r.ID, Score: r.Score, Metadata: metadataText(r.Metadata), Vector: r.Vector, Version: given(r.Version)}
	}
	return out
}

// metadataText leaves out both what was not asked for and what is not there.
func metadataText(m jsontext.Value) *string {
	if m == nil || m.Kind() == 'n' {
		return nil
	}
	text := string(m)
	return &text
}

func given(version uint64) *uint64 {
	if version == 0 {
		return nil
	}
	return &version
}

func number[To ~int](from *int64) *To {
	if from == nil {
		return nil
	}
	n := To(*from)
	return &n
}

func includeNames(i *akidbv1.Include) *[]string {
	if i == nil {
		return nil
	}
	names := []string{}
	for _, column := range []struct {
		name  string
		given bool
	}{{"metadata", i.Metadata}, {"vector", i.Vector}, {"version", i.Version}} {
		if column.given {
			names = append(names, column.name)
		}
	}
	return &names
}

// filterValue is the JSON of a filter; none without one.
func filterValue(text *string) (jsontext.Value, error) {
	if text == nil {
		return nil, nil
	}
	return httpapi.DecodeValue("filter", *text)
}

// quoted is a text as REST has it in a body.
func quoted(text *string) jsontext.Value {
	if text == nil {
		return nil
	}
	b, err := jsontext.AppendQuote(nil, *text)
	if err != nil {
		panic("BUG: a decoded string is not UTF-8: " + err.Error())
	}
	return b
}
