// Command ingest measures acknowledged writes: rows a second over real HTTP against a running
// `akidb dev` or `akidb writer`, in a closed loop of a few clients.
//
//	akidb dev --pprof &
//	go run ./loadtest/ingest --clients 4 --batch 1000 --dim 128
//	go run ./loadtest/ingest --clients 1,16 --batch 1 --dim 128    # what group commit wins
//
// Bodies are made before the clock starts. Every row of an uncompressed text body gets an id of its
// own each time it is sent; compressed and Parquet bodies repeat their ids after --bodies requests a
// client. One line of JSON is printed for every number of clients.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// setting is what is measured.
type setting struct {
	api, admin  string
	collection  string
	clients     int
	batch, dim  int
	encoding    string // json, base64, ndjson or parquet
	compression string // none, gzip or zstd
	digits      int
	metadata    bool
	bodies      int // a client
	duration    time.Duration
}

func main() {
	var s setting
	flag.StringVar(&s.api, "api", "http://127.0.0.1:8080", "`URL` of the REST port")
	flag.StringVar(&s.admin, "admin", "http://127.0.0.1:9091", "`URL` of the admin port, whose metrics say what it cost")
	flag.StringVar(&s.collection, "collection", "ingest", "collection to make, fill and delete again")
	clients := flag.String("clients", "4", "clients, each with one request under way; several numbers separated by commas are measured in turn")
	flag.IntVar(&s.batch, "batch", 1000, "rows a request")
	flag.IntVar(&s.dim, "dim", 128, "numbers a vector")
	flag.StringVar(&s.encoding, "encoding", "json", "json, base64, ndjson or parquet")
	flag.StringVar(&s.compression, "compression", "none", "none, gzip or zstd")
	flag.IntVar(&s.digits, "digits", 0, "significant digits of a number; 0 is as few as read back the same float32, 17 what float64 libraries write")
	flag.BoolVar(&s.metadata, "metadata", false, "give every row a small object of metadata")
	flag.IntVar(&s.bodies, "bodies", 8, "bodies to prepare a client")
	flag.DurationVar(&s.duration, "duration", 5*time.Second, "how long to send")
	flag.Parse()
	if err := run(s, *clients); err != nil {
		fmt.Fprintln(os.Stderr, "ingest:", err)
		os.Exit(1)
	}
}

func run(s setting, clients string) error {
	for _, text := range strings.Split(clients, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || s.batch < 1 || s.dim < 1 || s.bodies < 1 || flag.NArg() > 0 {
			return fmt.Errorf("want at least one of clients, batch, dim and bodies, and no arguments")
		}
		s.clients = n
		r, err := measure(s)
		if err != nil {
			return err
		}
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return nil
}
