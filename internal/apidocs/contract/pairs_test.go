package contract

import "strings"

const (
	c         = "/collections/{c}"
	admined   = "/admin/collections/{c}"
	upsert    = "VectorService/Upsert"
	patchRow  = "VectorService/PatchVector"
	remove    = "VectorService/DeleteVectors"
	removeAll = "VectorService/DeleteByFilter"
	getRow    = "VectorService/GetVector"
	scroll    = "VectorService/Scroll"
	count     = "VectorService/Count"
	search    = "SearchService/Search"
	batch     = "SearchService/SearchBatch"
	recall    = "SearchService/Recall"
)

var (
	long = strings.Repeat("x", 300)
	deep = `{"must": [{"must": [{"must": [{"must": [{"key": "n", "match": {"value": 1}}]}]}]}]}`
	wide = `{"must": [{"is_null": {"key": "a"}}, {"is_null": {"key": "b"}}, {"is_null": {"key": "c"}}, {"is_null": {"key": "d"}}]}`
)

// pairs are requests in an order in which they make sense, hostile ones among
// them. Limits are those of TestBothAPIsAnswerAlike.
var pairs = []pair{
	{method: "POST", path: "/collections", body: `{"name": "{c}", "dimension": 4, "metric": "cosine", "config": {"codebook": "sign"}}`, rpc: "CollectionService/CreateCollection"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [
		{"id": "a", "vector": [1, 0, 0, 0], "metadata": {"kind": "x", "n": 9007199254740993, "nested": {"deep": [1, "two", null]}}},
		{"id": "b", "vector": [0.6, 0.8, 0, 0], "metadata": {"kind": "y", "n": 2}},
		{"id": "c", "vector": [0, 0, 1, 0], "metadata": null}, {"id": "d", "vector": [0, 0, 0.5, 0.25], "metadata": {"kind": "x", "n": -1.5}}]}`, rpc: upsert},
	{method: "GET", path: c + "/vectors/a", rpc: getRow, message: `{"id": "a"}`},
	{method: "GET", path: c, rpc: "CollectionService/GetCollection"},

	{method: "POST", path: "/collections", body: `{"name": "{c}", "dimension": 4, "metric": "cosine"}`, rpc: "CollectionService/CreateCollection", code: "name_taken"},
	{method: "POST", path: "/collections", body: `{"name": "No", "dimension": 4, "metric": "cosine"}`, rpc: "CollectionService/CreateCollection", code: "invalid_name"},
	{method: "POST", path: "/collections", body: `{"name": "z", "dimension": 0, "metric": "cosine"}`, rpc: "CollectionService/CreateCollection", code: "invalid_dimension"},
	{method: "POST", path: "/collections", body: `{"name": "z", "dimension": 16385, "metric": "cosine"}`, rpc: "CollectionService/CreateCollection", code: "invalid_dimension"},
	{method: "POST", path: "/collections", body: `{"name": "z", "dimension": 4, "metric": "cosin"}`, rpc: "CollectionService/CreateCollection", code: "invalid_metric"},
	{method: "POST", path: "/collections", body: `{"name": "z", "dimension": 4, "metric": "l2", "config": {"codebook": "q"}}`, rpc: "CollectionService/CreateCollection", code: "invalid_codebook"},
	{method: "GET", path: "/collections/none", rpc: "CollectionService/GetCollection", message: `{"collection": "none"}`, code: "collection_not_found"},
	{method: "GET", path: "/collections/none?consistency=fresh", rpc: "CollectionService/GetCollection", message: `{"collection": "none", "consistency": "fresh"}`, code: "unknown_consistency"},
	{method: "GET", path: c + "?as_of=1&token=1.1", rpc: "CollectionService/GetCollection", message: `{"as_of": "1", "token": "1.1"}`, code: "ambiguous_freshness"},

	// Rows in.
	{method: "POST", path: "/collections/none/vectors", body: `{"vectors": [{"id": "a", "vector": [1,0,0,0]}]}`, rpc: upsert, message: `{"collection": "none"}`, code: "collection_not_found"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": []}`, rpc: upsert, code: "empty_batch"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "e", "vector": [1,0,0,0]}, {"id": "f", "vector": [1,0,0]}]}`, rpc: upsert, code: "dimension_mismatch"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "e", "vector": [0,0,0,0]}]}`, rpc: upsert, code: "zero_vector"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "e"}]}`, rpc: upsert, code: "missing_field"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "", "vector": [1,0,0,0]}]}`, rpc: upsert, code: "invalid_id"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "` + long[:21] + `", "vector": [1,0,0,0]}]}`, rpc: upsert, code: "invalid_id"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "a\u0007b", "vector": [1,0,0,0]}]}`, rpc: upsert, code: "invalid_id"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "e", "vector": [1,0,0,0], "metadata": {"k": "` + long[:200] + `"}}]}`, rpc: upsert, code: "metadata_too_large"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "e", "vector": [1,0,0,0], "metadata": [1]}]}`, rpc: upsert, code: "invalid_metadata"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "e", "vector": [1,0,0,0], "metadata": {"a": 1, "a": 2}}]}`, rpc: upsert, code: "duplicate_field", loose: true},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [` + strings.Repeat(`{"id": "e", "vector": [1,0,0,0]},`, 6) + `{"id": "e", "vector": [1,0,0,0]}]}`, rpc: upsert, code: "batch_too_large"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "` + strings.Repeat("x", 4000) + `", "vector": [1,0,0,0]}]}`, rpc: upsert, code: "body_too_large", loose: true},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "a", "vector": [1,0,0,0], "if_absent": true}]}`, rpc: upsert, code: "condition_failed"},
	{method: "POST", path: c + "/vectors", body: `{"if_absent": true, "vectors": [{"id": "new", "vector": [1,0,0,0]}, {"id": "b", "vector": [1,0,0,0]}]}`, rpc: upsert, code: "condition_failed"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "a", "vector": [1,0,0,0], "if_version": 99}]}`, rpc: upsert, code: "condition_failed"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "new", "vector": [1,0,0,0], "if_version": 1}]}`, rpc: upsert, code: "condition_failed"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "a", "vector": [1,0,0,0], "if_version": 1, "if_absent": true}]}`, rpc: upsert, code: "ambiguous_condition"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "a", "vector": [1,0,0,0], "if_version": 1}, {"id": "a", "vector": [1,0,0,0]}]}`, rpc: upsert, code: "ambiguous_condition"},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "a", "vector": [1,0,0,0], "metadata": {"kind": "x"}, "if_version": 1}]}`, rpc: upsert},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "twice", "vector": [1,0,0,0]}, {"id": "twice", "vector": [0,1,0,0]}]}`, rpc: upsert},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "k", "vector": [1,1,0,0]}]}`, rpc: upsert, header: "Idempotency-Key: one", message: `{"idempotency_key": "one"}`},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "k", "vector": [1,1,0,0]}]}`, rpc: upsert, header: "Idempotency-Key: one", message: `{"idempotency_key": "one"}`},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "k", "vector": [1,1,1,0]}]}`, rpc: upsert, header: "Idempotency-Key: one", message: `{"idempotency_key": "one"}`, code: "idempotency_key_reused", loose: true},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "k", "vector": [1,1,0,0]}]}`, rpc: upsert, header: "Idempotency-Key: " + long, message: `{"idempotency_key": "` + long + `"}`, code: "invalid_idempotency_key", loose: true},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "k", "vector": [1,1,0,0]}]}`, rpc: upsert, header: "X-AkiDB-Durability: tape", message: `{"durability": "tape"}`, code: "invalid_durability", loose: true},
	{method: "POST", path: c + "/vectors", body: `{"vectors": [{"id": "o", "vector": [1,1,0,1]}]}`, rpc: upsert, header: "X-AkiDB-Durability: object", message: `{"durability": "object"}`},
	{method: "PATCH", path: c + "/vectors/a", body: `{"metadata": {"kind": null, "more": [1]}}`, rpc: patchRow, message: `{"id": "a"}`},
	{method: "PATCH", path: c + "/vectors/a", body: `{}`, rpc: patchRow, message: `{"id": "a"}`, code: "missing_field"},
	{method: "PATCH", path: c + "/vectors/a", body: `{"metadata": 7}`, rpc: patchRow, message: `{"id": "a"}`, code: "invalid_metadata"},
	{method: "PATCH", path: c + "/vectors/none", body: `{"metadata": {}}`, rpc: patchRow, message: `{"id": "none"}`, code: "vector_not_found"},
	{method: "PATCH", path: c + "/vectors/b", body: `{"metadata": {"more": "` + long[:185] + `"}}`, rpc: patchRow, message: `{"id": "b"}`, code: "metadata_too_large"},

	// Rows out.
	{method: "GET", path: c + "/vectors/c", rpc: getRow, message: `{"id": "c"}`},
	{method: "GET", path: c + "/vectors/a?consistency=strong", rpc: getRow, message: `{"id": "a", "consistency": "strong"}`},
	{method: "GET", path: c + "/vectors/none", rpc: getRow, message: `{"id": "none"}`, code: "vector_not_found"},
	{method: "GET", path: c + "/vectors/a?token=1.999", rpc: getRow, message: `{"id": "a", "token": "1.999"}`, code: "token_not_visible"},
	{method: "GET", path: c + "/vectors/a?token=x", rpc: getRow, message: `{"id": "a", "token": "x"}`, code: "invalid_token"},
	{method: "GET", path: c + "/vectors/a?as_of=999", rpc: getRow, message: `{"id": "a", "as_of": "999"}`, code: "version_not_found", loose: true},
	{method: "POST", path: c + "/vectors/scroll", body: `{"limit": 6}`, rpc: scroll},
	{method: "POST", path: c + "/vectors/scroll", body: `{"limit": 2, "include": ["version", "vector"], "cursor": "YQ"}`, rpc: scroll},
	{method: "POST", path: c + "/vectors/scroll", body: `{"limit": 2, "include": [], "filter": {"must": {"key": "kind", "match": {"any": ["x", "y"]}}}}`, rpc: scroll},
	{method: "POST", path: c + "/vectors/scroll", body: `{"limit": 0}`, rpc: scroll, code: "out_of_range"},
	{method: "POST", path: c + "/vectors/scroll", body: `{"limit": 7}`, rpc: scroll, code: "out_of_range"},
	{method: "POST", path: c + "/vectors/scroll", body: `{"limit": 6, "cursor": "?"}`, rpc: scroll, code: "invalid_cursor"},
	{method: "POST", path: c + "/vectors/count", body: `{}`, rpc: count},
	{method: "POST", path: c + "/vectors/count", body: `{"filter": {"must": [{"key": "kind", "match": {"value": "x"}}]}}`, rpc: count},
	{method: "POST", path: c + "/vectors/count", body: `{"filter": {"must": [{"key": "kind", "equals": 1}]}}`, rpc: count, code: "invalid_filter"},
	{method: "POST", path: c + "/vectors/count", body: `{"filter": [1]}`, rpc: count, code: "invalid_filter"},
	{method: "POST", path: c + "/vectors/count", body: `{"filter": ` + deep + `}`, rpc: count, code: "invalid_filter"},
	{method: "POST", path: c + "/vectors/count", body: `{"filter": ` + wide + `}`, rpc: count, code: "invalid_filter"},
	{method: "POST", path: c + "/vectors/scroll", body: `{"limit": 3, "order_by": {"key": "n", "direction": "desc"}}`, rpc: scroll},
	{method: "POST", path: c + "/vectors/scroll", body: `{"limit": 3, "order_by": {"key": "n", "direction": "down"}}`, rpc: scroll, code: "unknown_direction"},
	{method: "POST", path: c + "/facet", body: `{"key": "kind", "limit": 6, "filter": {"must_not": {"key": "n", "match": {"value": 2}}}}`, rpc: "VectorService/Facet"},
	{method: "POST", path: c + "/facet", body: `{"key": "n", "limit": 5}`, rpc: "VectorService/Facet"},
	{method: "POST", path: c + "/facet", body: `{}`, rpc: "VectorService/Facet", code: "invalid_key"},
	{method: "POST", path: c + "/facet", body: `{"key": "n", "limit": 7}`, rpc: "VectorService/Facet", code: "out_of_range"},

	// Searches.
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0]}`, rpc: search},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0], "k": 2, "exact": true, "include": ["metadata", "vector", "version"], "consistency": "strong"}`, rpc: search},
	{method: "POST", path: c + "/search", body: `{"id": "a", "filter": {"must_not": {"has_id": ["a"]}}, "include": []}`, rpc: search},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0], "target_recall": 0.9, "timeout_ms": 60000, "token": "1.1"}`, rpc: search},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0], "nprobe": 3, "score_threshold": 0.5}`, rpc: search},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0], "group_by": "kind", "group_size": 2}`, rpc: search},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0], "group_size": 2}`, rpc: search, code: "group_size_alone"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0], "group_by": "kind", "group_size": 0}`, rpc: search, code: "out_of_range"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0], "max_store_gets": -1}`, rpc: search, code: "out_of_range"},
	{method: "POST", path: "/collections/none/search", body: `{"vector": [1]}`, rpc: search, message: `{"collection": "none"}`, code: "collection_not_found"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0]}`, rpc: search, code: "dimension_mismatch"},
	{method: "POST", path: c + "/search", body: `{"vector": [0,0,0,0]}`, rpc: search, code: "zero_vector"},
	{method: "POST", path: c + "/search", body: `{}`, rpc: search, code: "vector_or_id"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "id": "a"}`, rpc: search, code: "vector_or_id"},
	{method: "POST", path: c + "/search", body: `{"id": "none"}`, rpc: search, code: "vector_not_found"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "k": 0}`, rpc: search, code: "invalid_k"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "k": -9223372036854775808}`, rpc: search, code: "invalid_k"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "k": 21}`, rpc: search, code: "invalid_k"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "target_recall": 0}`, rpc: search, code: "out_of_range"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "target_recall": 1.5}`, rpc: search, code: "out_of_range"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "nprobe": 0}`, rpc: search, code: "out_of_range"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "timeout_ms": 0}`, rpc: search, code: "out_of_range"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "filter": {"must": {"key": "n", "range": {"gt": "x"}}}}`, rpc: search, code: "invalid_filter"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "as_of": 1, "consistency": "latest"}`, rpc: search, code: "ambiguous_freshness"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0,0,0], "as_of": ""}`, rpc: search, code: "invalid_as_of"},
	{method: "POST", path: c + "/search/batch", body: `{"searches": [{"vector": [1,0,0,0], "k": 2}, {"id": "b", "include": ["vector"]}]}`, rpc: batch},
	{method: "POST", path: c + "/search/batch", body: `{"searches": []}`, rpc: batch, code: "out_of_range"},
	{method: "POST", path: c + "/search/batch", body: `{"searches": [{"id": "a"}, {"id": "a"}, {"id": "a"}, {"id": "a"}]}`, rpc: batch, code: "out_of_range"},
	{method: "POST", path: c + "/search/batch", body: `{"searches": [{"id": "a"}, {"vector": [1,0,0]}]}`, rpc: batch, code: "dimension_mismatch"},
	{method: "POST", path: c + "/search/batch", body: `{"searches": [{"id": "a"}, {"id": "b", "k": 0}]}`, rpc: batch, code: "invalid_k"},
	{method: "POST", path: c + "/search/batch", body: `{"searches": [{"id": "a"}, {"id": "a", "as_of": 1}]}`, rpc: batch, code: "mixed_as_of"},
	{method: "POST", path: c + "/recall", body: `{"sample": 100, "k": 2}`, rpc: recall},
	{method: "POST", path: c + "/recall", body: `{"sample": 0}`, rpc: recall, code: "out_of_range"},
	{method: "POST", path: c + "/recall", body: `{"filter": {"x": 1}}`, rpc: recall, code: "invalid_filter"},

	// Maintenance.
	{method: "POST", path: admined + "/flush", rpc: "AdminService/Flush"},
	{method: "POST", path: "/admin/collections/none/flush", rpc: "AdminService/Flush", message: `{"collection": "none"}`, code: "collection_not_found"},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0], "consistency": "strong"}`, rpc: search},
	{method: "POST", path: c + "/search", body: `{"vector": [1,0.5,0,0], "explain": true, "include": ["metadata", "vector"]}`, rpc: search},
	{method: "POST", path: admined + "/snapshots", body: `{"name": "first"}`, rpc: "AdminService/CreateSnapshot"},
	{method: "POST", path: admined + "/snapshots", body: `{"name": "first"}`, rpc: "AdminService/CreateSnapshot", code: "name_taken"},
	{method: "POST", path: admined + "/snapshots", body: `{"name": "latest"}`, rpc: "AdminService/CreateSnapshot", code: "invalid_name"},
	{method: "POST", path: admined + "/snapshots", body: `{"name": "No"}`, rpc: "AdminService/CreateSnapshot", code: "invalid_name"},
	{method: "POST", path: admined + "/snapshots", rpc: "AdminService/CreateSnapshot"},
	{method: "GET", path: admined + "/snapshots", rpc: "AdminService/ListSnapshots"},
	{method: "DELETE", path: admined + "/snapshots/latest", rpc: "AdminService/DeleteSnapshot", message: `{"snapshot_id": "latest"}`},
	{method: "DELETE", path: admined + "/snapshots/none", rpc: "AdminService/DeleteSnapshot", message: `{"snapshot_id": "none"}`, code: "snapshot_not_found"},
	{method: "POST", path: c + "/vectors/delete", body: `{"ids": ["a", "nobody", "a"]}`, rpc: remove},
	{method: "POST", path: c + "/vectors/delete", body: `{"ids": []}`, rpc: remove, code: "empty_batch"},
	{method: "POST", path: c + "/vectors/delete", body: `{"ids": ["1", "2", "3", "4", "5", "6", "7"]}`, rpc: remove, code: "batch_too_large"},
	{method: "POST", path: c + "/vectors/delete", body: `{"ids": ["b", ""]}`, rpc: remove, code: "invalid_id"},
	{method: "POST", path: c + "/vectors/delete", body: `{"filter": {"must": [{"key": "n", "range": {"lt": 0}}]}}`, rpc: removeAll, header: "Idempotency-Key: two", message: `{"idempotency_key": "two"}`},
	{method: "POST", path: c + "/vectors/delete", body: `{"filter": {"mus": []}}`, rpc: removeAll, code: "invalid_filter"},
	{method: "POST", path: c + "/vectors/count", body: `{"as_of": "first"}`, rpc: count},
	{method: "POST", path: admined + "/restore", body: `{"snapshot_id": "first"}`, rpc: "AdminService/Restore"},
	{method: "POST", path: admined + "/restore", body: `{}`, rpc: "AdminService/Restore", code: "missing_field"},
	{method: "POST", path: admined + "/restore", body: `{"snapshot_id": "none"}`, rpc: "AdminService/Restore", code: "snapshot_not_found"},
	{method: "POST", path: c + "/vectors/count", body: `{"consistency": "strong"}`, rpc: count},
	{method: "POST", path: admined + "/compact", rpc: "AdminService/Compact"},
	{method: "POST", path: admined + "/promote", rpc: "AdminService/Promote"},
	{method: "POST", path: admined + "/promote", body: `{"tier": "cold"}`, rpc: "AdminService/Promote", code: "invalid_tier"},
	{method: "POST", path: admined + "/pin", rpc: "AdminService/Pin"},
	{method: "POST", path: admined + "/demote", rpc: "AdminService/Demote", code: "pinned"},
	{method: "POST", path: admined + "/unpin", rpc: "AdminService/Unpin"},
	{method: "POST", path: admined + "/demote", body: `{"tier": "warm"}`, rpc: "AdminService/Demote"},
	{method: "POST", path: c + "/warm", body: `{"parts": ["routing"], "wait": true}`, rpc: "AdminService/Warm"},
	{method: "POST", path: c + "/warm", body: `{"parts": ["everything"]}`, rpc: "AdminService/Warm", code: "invalid_part"},
	{method: "GET", path: c + "?consistency=strong", rpc: "CollectionService/GetCollection", message: `{"consistency": "strong"}`},
	{method: "POST", path: admined + "/branch", body: `{"name": "{c}-2", "snapshot_id": "first"}`, rpc: "AdminService/Branch"},
	{method: "POST", path: admined + "/branch", body: `{"name": "{c}"}`, rpc: "AdminService/Branch", code: "name_taken"},
	{method: "DELETE", path: c, rpc: "CollectionService/DeleteCollection", code: "collection_has_branches"},
	{method: "GET", path: "/admin/dlq", rpc: "AdminService/ListDeadLetters"},
	{method: "POST", path: "/admin/dlq/retry-all", rpc: "AdminService/RetryAllDeadLetters"},
	{method: "POST", path: "/admin/dlq/x/retry", rpc: "AdminService/RetryDeadLetter", message: `{"id": "x"}`, code: "dead_letter_not_found"},
	{method: "DELETE", path: "/admin/dlq/x", rpc: "AdminService/DeleteDeadLetter", message: `{"id": "x"}`, code: "dead_letter_not_found"},
	{method: "GET", path: "/collections", rpc: "CollectionService/ListCollections"},
	{method: "DELETE", path: c + "-2", rpc: "CollectionService/DeleteCollection", message: `{"collection": "{c}-2"}`},
	{method: "DELETE", path: c, rpc: "CollectionService/DeleteCollection"},
	{method: "DELETE", path: c, rpc: "CollectionService/DeleteCollection", code: "collection_not_found"},
}
