package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/loadtest/dataset"
)

// buckets is how many values the attribute has that filters ask for.
const buckets = 1000

// bucketOf is a row's value: at random, so that it tells nothing about where the row lies.
func bucketOf(row int) int {
	x := uint64(row)*0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15 // SplitMix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return int((x ^ x>>31) % buckets)
}

// below is how many buckets a filter lets through for a share of the rows.
func below(share float64) int { return max(1, int(share*buckets+0.5)) }

const (
	storeBatch   = 5000
	storeClients = 4
)

// store creates the collection anew and writes the rows, each under its number, then has them flushed
// and merged.
func store(o options, set *dataset.Set) error {
	ctx := context.Background()
	c, err := client.New(client.Config{URL: o.urls[0], Connections: storeClients, RetryFor: time.Hour})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := set.LoadBase(); err != nil {
		return err
	}
	if err := c.DeleteCollection(ctx, o.collection); err != nil && !client.IsNotFound(err) {
		return err
	}
	if _, err := c.CreateCollection(ctx, client.NewCollection{Name: o.collection, Dimension: set.Dim, Metric: set.Metric.String()}); err != nil {
		return err
	}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range storeClients {
		g.Go(func() error {
			var b client.Batch
			for {
				first := int(next.Add(storeBatch)) - storeBatch
				if first >= set.Rows {
					return nil
				}
				b.Reset()
				for row := first; row < min(first+storeBatch, set.Rows); row++ {
					metadata := fmt.Appendf(nil, `{"bucket":%d}`, bucketOf(row))
					if err := b.Add(strconv.Itoa(row), set.Base[row*set.Dim:(row+1)*set.Dim], metadata); err != nil {
						return err
					}
				}
				if _, err := c.UpsertRepeatable(ctx, o.collection, &b); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	ctx = context.Background()
	if err := c.Flush(ctx, o.collection); err != nil {
		return err
	}
	// Merging takes minutes for millions of rows: no time-out here.
	if err := post(o.urls[0] + "/api/v1/admin/collections/" + o.collection + "/compact"); err != nil {
		return err
	}
	about, err := c.GetCollection(ctx, o.collection)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "stored %d rows in %d segments, %d bytes\n", about.VectorCount, about.SegmentCount, about.SizeBytes)
	set.Base = nil
	return nil
}

func post(url string) error {
	resp, err := http.Post(url, "application/json", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("POST %s: status %d: %s", url, resp.StatusCode, answer)
	}
	return err
}
