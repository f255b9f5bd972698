// Command index measures the index by itself, in this process: recall against queries a second, as
// ../peers asks for it beside other libraries. What is searched is a real segment: built, stored in
// files, opened again and loaded into an arena, as a query process does with one that is searched
// often. Vectors for the last step are in memory, as those of the peers are.
//
//	go build -o /tmp/index ./loadtest/index
//	/tmp/index --data /tmp/bench/clu1m_128 --mode single
//
// A data set is a folder with base.fvecs, query.fvecs, groundtruth.ivecs and meta.json, as
// ../peers/data.py makes them. The segment is kept in DIR/akidb and built once.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/akidb/akidb/kernels"
	"github.com/akidb/akidb/loadtest/dataset"
)

func main() {
	var (
		data     = flag.String("data", "", "`DIR` of the data set")
		mode     = flag.String("mode", "single", "single (one thread, one query at a time), batch (one thread, 4000 at once) or threads2")
		repeat   = flag.Int("repeat", 5, "measurements of each point")
		seconds  = flag.Float64("seconds", 1, "about how long one takes")
		codebook = flag.String("codebook", "sign", "sign or learned")
		asJSON   = flag.Bool("json", false, "a line of JSON for every measurement, and nothing else")
		wait     = flag.Bool("wait", false, "measure once for every line on standard input")
		queries  = flag.Int("queries", 0, "use the first so many only")
		points   = flag.String("points", "", "nprobe,depth pairs to measure, separated by spaces, in place of the best of a grid")
		rebuild  = flag.Bool("rebuild", false, "build the segment although there is one")
	)
	flag.Parse()
	if *data == "" || flag.NArg() > 0 || !slices.Contains([]string{"single", "batch", "threads2"}, *mode) {
		fmt.Fprintln(os.Stderr, "index: want --data DIR, and --mode single, batch or threads2")
		os.Exit(2)
	}
	if err := run(*data, *mode, *codebook, *points, *repeat, *queries, *seconds, *asJSON, *wait, *rebuild); err != nil {
		fmt.Fprintln(os.Stderr, "index:", err)
		os.Exit(1)
	}
}

func run(data, mode, codebook, points string, repeat, queries int, seconds float64, asJSON, wait, rebuild bool) error {
	set, err := dataset.Load(data)
	if err != nil {
		return err
	}
	set.Trim(queries)
	index, err := openIndex(set, codebook, rebuild)
	if err != nil {
		return err
	}
	defer index.close()
	set.Base = nil
	fmt.Fprintf(os.Stderr, "%s: %d lists, %.1f bytes a vector resident, built in %.1f CPU s, kernels %v\n", set.Name, index.postings.Quantizer().Lists(), index.bytesPerVector(), index.BuildCPU, kernels.ActiveLevel())
	m := &measurer{set: set, index: index, mode: mode, seconds: seconds}
	settings, err := m.settings(points)
	if err != nil {
		return err
	}
	if err := m.prepare(settings); err != nil {
		return err
	}
	report := printTable
	if asJSON {
		report = printJSON
	}
	in := bufio.NewScanner(os.Stdin)
	if wait {
		fmt.Println(`{"done": 0}`)
	}
	for round := 1; round <= repeat; round++ {
		if wait && !in.Scan() {
			break
		}
		for _, s := range settings {
			report(m.measure(s, codebook))
		}
		if wait {
			fmt.Printf("{\"done\": %d}\n", round)
		}
	}
	return nil
}

// line is one measurement, as ../peers reads it.
type line struct {
	System   string  `json:"system"`
	Setting  string  `json:"setting"`
	Dataset  string  `json:"dataset"`
	Mode     string  `json:"mode"`
	Recall1  float64 `json:"recall@1"`
	Recall10 float64 `json:"recall@10"`
	Recall99 float64 `json:"recall@100"`
	QPS      float64 `json:"qps"`
	QPSCPU   float64 `json:"qps_cpu"`
	Scanned  float64 `json:"codes_scanned"`
	BuildCPU float64 `json:"build_cpu_s"`
	Bytes    float64 `json:"bytes_per_vector"`
}

func printJSON(l line) {
	b, err := json.Marshal(l)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	fmt.Println(string(b))
}

func printTable(l line) {
	fmt.Printf("%-24s recall@1 %.4f @10 %.4f @100 %.4f  %8.0f q/s  %8.0f q/CPU s  %6.0f codes\n", l.Setting, l.Recall1, l.Recall10, l.Recall99, l.QPS, l.QPSCPU, l.Scanned)
}

// parsePoints reads "nprobe,depth nprobe,depth".
func parsePoints(text string) (out []setting, err error) {
	for _, field := range strings.Fields(text) {
		var s setting
		if _, err := fmt.Sscanf(field, "%d,%d", &s.nprobe, &s.depth); err != nil {
			return nil, fmt.Errorf("point %q: want nprobe,depth", field)
		}
		out = append(out, s)
	}
	return out, nil
}
