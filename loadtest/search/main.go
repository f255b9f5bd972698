// Command search measures a running server: recall beside latency, queries a second and CPU, through
// REST, with any number of query processes in front.
//
//	akidb dev --data-dir /tmp/bench/dev &
//	go run ./loadtest/search --data /tmp/bench/clu1m_128 --load
//	go run ./loadtest/search --data /tmp/bench/clu1m_128 --clients 1,2,4 --rate 100,1000 --recall 0.95,0.99
//	go run ./loadtest/search --data /tmp/bench/clu1m_128 --share 1,0.5,0.1,0.02,0.01,0.001
//
// A data set is a folder as ../peers/data.py makes them. --load stores its rows with an attribute
// "bucket", 0 to 999 at random, by which --share filters: {"range": {"lt": 20}} is 2 %. What should be
// found is known exactly: without a filter from the folder, with one from comparing every row.
//
// Clients are closed loops: each sends when it has its answer, so they show throughput. A rate is an
// open loop: requests are sent at their times whether or not others were answered, and time counts from
// when a request should have been sent. Every point is measured --rounds times in turn with the others;
// medians are printed. The generator's own work is on the same processors.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akidb/loadtest/dataset"
)

// options are the flags.
type options struct {
	urls, admins []string
	collection   string
	k            int
	queries      int
	duration     time.Duration
	rounds       int
	asJSON       bool
	extra        string // further members of a search, `"consistency": "eventual"`
}

func main() {
	var (
		o       options
		data    = flag.String("data", "", "`DIR` of the data set")
		urls    = flag.String("url", "http://127.0.0.1:8080", "`URLS` of query processes; requests go to them in turn")
		admins  = flag.String("admin", "http://127.0.0.1:9091", "`URLS` of their admin ports, for what they cost; the first is also asked to load")
		load    = flag.Bool("load", false, "store the rows first, and wait until they are in segments")
		clients = flag.String("clients", "", "closed loops: `COUNTS` of clients")
		rates   = flag.String("rate", "", "open loops: `COUNTS` of requests a second")
		recalls = flag.String("recall", "0.95", "target recalls to ask for")
		shares  = flag.String("share", "1", "shares of the rows that a filter lets through; 1 is no filter")
	)
	flag.StringVar(&o.collection, "collection", "bench", "`NAME` of the collection")
	flag.IntVar(&o.k, "k", 10, "results a query")
	flag.IntVar(&o.queries, "queries", 1000, "use the first so many of the data set")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "of one measurement of a point")
	flag.IntVar(&o.rounds, "rounds", 5, "measurements of each point")
	flag.BoolVar(&o.asJSON, "json", false, "a line of JSON for each point")
	flag.StringVar(&o.extra, "extra", "", "further members of every search, such as `'\"consistency\": \"eventual\"'`")
	flag.Parse()
	o.urls, o.admins = strings.Split(*urls, ","), strings.Split(*admins, ",")
	if *data == "" || flag.NArg() > 0 || o.k < 1 || o.k > dataset.Neighbours || o.rounds < 1 {
		fmt.Fprintf(os.Stderr, "search: want --data DIR, and k from 1 to %d\n", dataset.Neighbours)
		os.Exit(2)
	}
	if err := run(o, *data, *load, *clients, *rates, *recalls, *shares); err != nil {
		fmt.Fprintln(os.Stderr, "search:", err)
		os.Exit(1)
	}
}

func run(o options, data string, load bool, clients, rates, recalls, shares string) error {
	set, err := dataset.Load(data)
	if err != nil {
		return err
	}
	if load {
		if err := store(o, set); err != nil {
			return err
		}
	}
	set.Trim(o.queries)
	points, err := pointsOf(clients, rates, recalls, shares)
	if err != nil {
		return err
	}
	answers, err := measure(o, set, points)
	if err != nil {
		return err
	}
	if !o.asJSON {
		fmt.Println("| asked | filter passes | load | recall@k | worst query | queries/s | p50 ms | p99 ms | CPU µs a query | codes | lists | reranked | GETs | KB | results short | failed |")
		fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	}
	for _, a := range answers {
		if o.asJSON {
			b, err := json.Marshal(a)
			if err != nil {
				return err
			}
			fmt.Println(string(b))
			continue
		}
		fmt.Printf("| %g | %g %% | %s | %.4f | %.2f | %.0f | %.2f | %.2f | %.0f | %.0f | %.1f | %.0f | %.1f | %.0f | %d | %d |\n",
			a.Asked, 100*a.Share, a.Load, a.Recall, a.Worst, a.QPS, a.P50, a.P99, a.CPU, a.Codes, a.Lists, a.Reranked, a.Gets, a.Bytes/1e3, a.Short, a.Failed)
	}
	return nil
}

// point is a combination to measure. Of clients and rate one is 0, or both: recall and cost alone.
type point struct {
	clients int
	rate    float64
	recall  float64
	share   float64
}

func (p point) load() string {
	switch {
	case p.clients > 0:
		return fmt.Sprintf("%d clients", p.clients)
	case p.rate > 0:
		return fmt.Sprintf("%g a second", p.rate)
	}
	return "each once"
}

func pointsOf(clients, rates, recalls, shares string) (out []point, err error) {
	list := func(text string) (values []float64) {
		for _, field := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
			v, perr := strconv.ParseFloat(field, 64)
			if perr != nil || v <= 0 {
				err = fmt.Errorf("%q: want positive numbers", field)
			}
			values = append(values, v)
		}
		return values
	}
	for _, recall := range list(recalls) {
		for _, share := range list(shares) {
			p := point{recall: recall, share: share}
			if recall > 1 || share > 1 {
				return nil, fmt.Errorf("recall %g and share %g: want at most 1", recall, share)
			}
			n := len(out)
			for _, c := range list(clients) {
				p.clients, p.rate = int(c), 0
				out = append(out, p)
			}
			for _, rate := range list(rates) {
				p.clients, p.rate = 0, rate
				out = append(out, p)
			}
			if len(out) == n {
				out = append(out, p)
			}
		}
	}
	return out, err
}
