package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/client"
)

// searchFlags are the flags of `akidb search`: one query, or a file of them.
type searchFlags struct {
	url          string
	collection   string
	k            int
	vector       string
	id           string
	filter       string
	include      []string
	exact        bool
	targetRecall float64
	nprobe       int
	consistency  string
	threshold    float64
	groupBy      string
	groupSize    int
	maxStoreGets int64
	output       string

	queries     string
	groundTruth string
	limit       int
	concurrency int
	minRecall   float64
	idPrefix    string
	vectorField string
}

// searchRetry is how long a search is tried again for while the server is away.
const searchRetry = 5 * time.Second

func newSearchCmd() *cobra.Command {
	var f searchFlags
	c := &cobra.Command{
		Use:   "search --collection C (--vector '[…]' | --id ID | --queries FILE)",
		Short: "Search a collection, or measure recall and latency over a file of queries",
		Long: `Search a collection for the rows nearest to one vector or row, or run a file of queries one after the other.

With --groundtruth, an .ivecs file that lists for every query the numbers of its nearest rows, recall@k is the share of each
query's first k true neighbours among its k results. Row i has the id "<--id-prefix>i", which is how import names rows of files
without ids. A result outside the ground truth counts as right only if it is proven to be a tie: its vector and that of the k-th
true neighbour are read back and lie at exactly the same distance from the query, computed here.

Latency is a request's time as seen from here. The exit code is 5 when recall is below --min-recall.

The server's API key is taken from AKIDB_API_KEY.`,
		Example: `  akidb search --collection movies --k 5 --vector '[0.12, -0.5, 0.33]'
  akidb search --collection sift --queries query.fvecs --groundtruth groundtruth.ivecs --min-recall 0.95`,
		Args: cobra.NoArgs,
	}
	flags := c.Flags()
	urlFlag(c, &f.url)
	flags.StringVarP(&f.collection, "collection", "c", "", "name or id of the collection (required)")
	flags.IntVarP(&f.k, "k", "k", 10, "how many results, 1 to 10000")
	flags.StringVar(&f.vector, "vector", "", "the query: a JSON array of numbers")
	flags.StringVar(&f.id, "id", "", "the query: the vector of the row with this id")
	flags.StringVar(&f.filter, "filter", "", "only rows that match, as the REST interface takes it: a JSON object")
	flags.StringSliceVar(&f.include, "include", nil, "what to show of a result: metadata, vector (default metadata for one query, nothing for a file)")
	flags.BoolVar(&f.exact, "exact", false, "compare with every row")
	flags.Float64Var(&f.targetRecall, "target-recall", 0, "share of true neighbours asked for, above 0 to 1 (default: the server's)")
	flags.IntVar(&f.nprobe, "nprobe", 0, "lists to look into, overriding --target-recall (default: the server's)")
	flags.Float64Var(&f.threshold, "score-threshold", 0, "only results with this score or a better one (default: any)")
	flags.StringVar(&f.groupBy, "group-by", "", "key of the metadata: show the best --k groups, those that share a value of it")
	flags.IntVar(&f.groupSize, "group-size", 0, "with --group-by: most results of a group, 1 to 100 (default 1)")
	flags.Int64Var(&f.maxStoreGets, "max-store-gets", 0, "fail where more reads of the object store are needed, 0 for none at all (default: any number)")
	flags.StringVar(&f.consistency, "consistency", "", "eventual, latest or strong (default: the server's)")
	flags.StringVar(&f.queries, "queries", "", "file of query vectors, in any format import reads")
	flags.StringVar(&f.groundTruth, "groundtruth", "", "with --queries: .ivecs file of true neighbours")
	flags.IntVar(&f.limit, "limit", 0, "with --queries: only the first so many (default: all)")
	flags.IntVar(&f.concurrency, "concurrency", 1, "with --queries: searches under way at once, 1 to 1024")
	flags.Float64Var(&f.minRecall, "min-recall", 0, "with --groundtruth: fail with exit code 5 below this recall")
	flags.StringVar(&f.idPrefix, "id-prefix", "", "with --groundtruth: what import put before row numbers")
	flags.StringVar(&f.vectorField, "vector-column", "", "with --queries: column or field of the vector")
	checkOutput := outputFlag(c, &f.output, "table", "json")
	c.MarkFlagsOneRequired("vector", "id", "queries")
	c.MarkFlagsMutuallyExclusive("vector", "id", "queries")
	c.RunE = func(c *cobra.Command, _ []string) error {
		request, err := f.request(c)
		if err := errors.Join(checkOutput(), f.validate(c), err); err != nil {
			return withExitCode(exitUsage, err)
		}
		server, err := client.New(client.Config{
			URL: f.url, Connections: f.concurrency,
			RetryFor: searchRetry, Notify: retryNotice(c.ErrOrStderr()), // somebody is waiting
		})
		if err != nil {
			return withExitCode(exitUsage, err)
		}
		defer server.Close()
		ctx, stop := untilSignal(c.Context(), c.ErrOrStderr())
		defer stop()
		if f.queries != "" {
			return f.measure(ctx, c, server, request)
		}
		return f.search(ctx, c, server, request)
	}
	return c
}

func (f *searchFlags) validate(c *cobra.Command) error {
	var errs []error
	if f.collection == "" {
		errs = append(errs, errors.New("--collection is missing"))
	}
	if f.k < 1 || f.k > 10000 {
		errs = append(errs, fmt.Errorf("--k is %d, want 1 to 10000", f.k))
	}
	if c.Flags().Changed("target-recall") && !(f.targetRecall > 0 && f.targetRecall <= 1) {
		errs = append(errs, fmt.Errorf("--target-recall is %v, want above 0 to 1", f.targetRecall))
	}
	if f.nprobe < 0 {
		errs = append(errs, fmt.Errorf("--nprobe is %d, want 1 or more", f.nprobe))
	}
	if f.limit < 0 {
		errs = append(errs, fmt.Errorf("--limit is %d, want 1 or more", f.limit))
	}
	if f.concurrency < 1 || f.concurrency > 1024 {
		errs = append(errs, fmt.Errorf("--concurrency is %d, want 1 to 1024", f.concurrency))
	}
	if !(f.minRecall >= 0 && f.minRecall <= 1) {
		errs = append(errs, fmt.Errorf("--min-recall is %v, want 0 to 1", f.minRecall))
	}
	switch f.consistency {
	case "", "eventual", "latest", "strong":
	default:
		errs = append(errs, fmt.Errorf("--consistency is %q, want eventual, latest or strong", f.consistency))
	}
	for _, part := range f.include {
		if part != "metadata" && part != "vector" {
			errs = append(errs, fmt.Errorf("--include is %q, want metadata or vector", part))
		}
	}
	needs := func(flag, other, value string) {
		if c.Flags().Changed(flag) && value == "" {
			errs = append(errs, fmt.Errorf("--%s needs --%s", flag, other))
		}
	}
	for _, flag := range []string{"groundtruth", "limit", "concurrency", "vector-column"} {
		needs(flag, "queries", f.queries)
	}
	for _, flag := range []string{"min-recall", "id-prefix"} {
		needs(flag, "groundtruth", f.groundTruth)
	}
	needs("group-size", "group-by", f.groupBy)
	if f.queries != "" && f.groupBy != "" {
		errs = append(errs, errors.New("--group-by is for one query, not for --queries"))
	}
	if c.Flags().Changed("group-size") && (f.groupSize < 1 || f.groupSize > 100) {
		errs = append(errs, fmt.Errorf("--group-size is %d, want 1 to 100", f.groupSize))
	}
	if f.maxStoreGets < 0 {
		errs = append(errs, fmt.Errorf("--max-store-gets is %d, want 0 or more", f.maxStoreGets))
	}
	if f.groundTruth != "" && f.filter != "" {
		errs = append(errs, errors.New("--filter does not go with --groundtruth, which is about all rows"))
	}
	return errors.Join(errs...)
}

// request is what the flags ask the server.
func (f *searchFlags) request(c *cobra.Command) (client.SearchRequest, error) {
	r := client.SearchRequest{
		ID: f.id, K: f.k, Include: f.include, Exact: f.exact, TargetRecall: f.targetRecall, NProbe: f.nprobe, Consistency: f.consistency,
		GroupBy: f.groupBy, GroupSize: f.groupSize,
	}
	if c.Flags().Changed("score-threshold") {
		r.ScoreThreshold = &f.threshold
	}
	if c.Flags().Changed("max-store-gets") {
		r.MaxStoreGets = &f.maxStoreGets
	}
	if f.queries == "" && !c.Flags().Changed("include") {
		r.Include = []string{"metadata"}
	}
	var errs []error
	if f.vector != "" {
		if err := json.Unmarshal([]byte(f.vector), &r.Vector); err != nil {
			errs = append(errs, fmt.Errorf("--vector: %w", err))
		}
	}
	if f.filter != "" {
		if r.Filter = jsontext.Value(f.filter); !r.Filter.IsValid() || r.Filter.Kind() != '{' {
			errs = append(errs, errors.New("--filter is not a JSON object"))
		}
	}
	return r, errors.Join(errs...)
}

// search answers one query.
func (f *searchFlags) search(ctx context.Context, c *cobra.Command, server *client.Client, request client.SearchRequest) error {
	start := time.Now()
	response, err := server.Search(ctx, f.collection, request)
	if err != nil {
		return err
	}
	if f.output == "json" {
		return printJSON(c.OutOrStdout(), response)
	}
	count, what := len(response.Results), "results"
	if f.groupBy != "" {
		count, what = len(response.Groups), "groups"
		err = printGroups(c.OutOrStdout(), response.Groups, request.Include)
	} else {
		err = printResults(c.OutOrStdout(), response.Results, request.Include)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.ErrOrStderr(), "%d %s in %.1f ms, %.1f of them in the server\n",
		count, what, milliseconds(time.Since(start)), response.TookMS)
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// shownRunes is how much of a metadata object or a vector a table line shows.
const shownRunes = 120

func printResults(w io.Writer, results []client.Result, include []string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "#", resultHeader(include))
	for i, r := range results {
		fmt.Fprintf(table, "%d", i+1)
		printResult(table, r, include)
	}
	return table.Flush()
}

// printGroups shows for every row the number of its group, and what the rows of that share.
func printGroups(w io.Writer, groups []client.Group, include []string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "#\tGROUP", resultHeader(include))
	for i, g := range groups {
		for _, r := range g.Results {
			fmt.Fprintf(table, "%d\t%s", i+1, shorten(printable(string(g.Value))))
			printResult(table, r, include)
		}
	}
	return table.Flush()
}

func resultHeader(include []string) string {
	header := "\tID\tSCORE"
	for _, part := range include {
		header += "\t" + map[string]string{"metadata": "METADATA", "vector": "VECTOR"}[part]
	}
	return header + "\n"
}

func printResult(table io.Writer, r client.Result, include []string) {
	fmt.Fprintf(table, "\t%s\t%.6g", printable(r.ID), r.Score)
	for _, part := range include {
		text := printable(string(r.Metadata))
		if part == "vector" {
			text = fmt.Sprint([]float32(r.Vector))
		}
		fmt.Fprintf(table, "\t%s", shorten(text))
	}
	fmt.Fprintln(table)
}
