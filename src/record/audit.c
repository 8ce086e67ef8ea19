/* SPDX-License-Identifier: Apache-2.0 */
#include "record/audit.h"
#include "record/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- search ------------------------------------------------------------------ */

static bool kind_fits(const char *want, const struct record_kind_info *k)
{
	size_t n = strlen(want);

	if (!k)
		return false;
	return n && want[n - 1] == '.' ? strncmp(k->name, want, n) == 0 : strcmp(k->name, want) == 0;
}

static bool kind_known(const char *want)
{
	const struct record_kind_info *k;

	for (size_t i = 0; (k = record_kind_at(i)); i++)
		if (kind_fits(want, k))
			return true;
	return false;
}

static bool contains(struct span hay, const char *needle)
{
	size_t n = strlen(needle);

	for (size_t i = 0; n && i + n <= hay.n; i++)
		if (strncasecmp(hay.p + i, needle, n) == 0)
			return true;
	return false;
}

static bool text_fits(const char *want, struct span body)
{
	struct record_value v;
	char hex[2 * 64 + 1];

	while (record_next(&body, &v) == 1) {
		if (v.info->type == RT_TEXT && contains(v.bytes, want))
			return true;
		if (v.info->type == RT_BYTES && v.bytes.n <= 64) {
			cl_hex(v.bytes.p, v.bytes.n, hex);
			if (contains(span_str(hex), want))
				return true;
		}
	}
	return false;
}

static bool fits(const struct audit_query *q, const struct audit_record *r)
{
	if (r->number < q->from_number ||
	    (q->from_us && r->at_us < (uint64_t)q->from_us) ||
	    (q->to_us && r->at_us >= (uint64_t)q->to_us))
		return false;
	if (q->tenant && !span_eq_str(r->tenant, q->tenant))
		return false;
	if (q->kind && !kind_fits(q->kind, r->kind))
		return false;
	return !q->text || text_fits(q->text, r->body);
}

struct pass {
	const struct audit_query *q;
	audit_fn *fn;		/* NULL: only count */
	void *ctx;
	uint64_t skip, left;	/* of those that fit; left 0 = no limit */
	uint64_t count, last;
	bool stop;
};

static int one_segment(struct pass *p, int dirfd, uint64_t segment, struct cl_err *err)
{
	struct reader rd;
	struct frame f;
	struct span raw;
	int r = reader_open(&rd, dirfd, segment, err);

	if (r == -ENOENT)
		return 0;	/* retention was faster */
	if (r)
		return r;
	while (r == 0 && !p->stop) {
		uint64_t at = rd.at;
		int k = reader_next(&rd, &f, &raw);

		if (k == 0 || k == -ENODATA)
			break;
		if (k < 0) {
			r = cl_fail(err, -k, "%s: byte %llu: no record; run 'cloister audit verify'",
				    rd.name, (unsigned long long)at);
			break;
		}
		struct audit_record rec = {
			.number = f.number, .at_us = f.at_us,
			.sender = f.sender < ROLE_COUNT ? (enum wire_role)f.sender : ROLE_NONE,
			.must = (f.flags & FRAME_MUST) != 0,
			.kind = record_kind_info(f.kind), .kind_number = f.kind,
			.tenant = f.tenant, .body = f.body,
		};

		memcpy(rec.chain, f.chain, CHAIN_SIZE);
		p->last = f.number;
		if (!fits(p->q, &rec))
			continue;
		p->count++;
		if (!p->fn || p->count <= p->skip)
			continue;
		k = p->fn(p->ctx, &rec);
		if (k < 0)
			r = cl_fail(err, -k, "audit: stopped");
		if (k || (p->left && --p->left == 0))
			p->stop = true;
	}
	reader_done(&rd);
	return r;
}

/* First segment that can hold number @from; the list is not empty. */
static size_t first_segment(int dirfd, const uint64_t *list, size_t n, uint64_t from)
{
	size_t i = n - 1;

	for (; i > 0; i--) {
		struct reader rd;
		struct cl_err none;

		if (reader_open(&rd, dirfd, list[i], &none))
			continue;
		uint64_t first = rd.header.first;

		reader_done(&rd);
		if (first <= from)
			break;
	}
	return i;
}

int audit_read(int dirfd, const struct audit_query *q, audit_fn *fn, void *ctx,
	       uint64_t *out_last, struct cl_err *err)
{
	struct pass p = { .q = q, .fn = fn, .ctx = ctx, .left = q->limit };
	uint64_t *list = NULL;
	size_t n = 0, i = 0;
	int r = ledger_crypto_init(err);

	if (r == 0 && q->kind && !kind_known(q->kind))
		r = cl_fail(err, EINVAL, "audit: no kind '%s'", q->kind);
	if (r == 0)
		r = segment_list(dirfd, &list, &n, err);
	if (r == 0 && n && q->from_number)
		i = first_segment(dirfd, list, n, q->from_number);
	if (r == 0 && q->last && q->limit) {
		/* count from the newest segment backwards until there are enough */
		uint64_t have = 0;
		size_t k = n, lowest = i;

		while (k > lowest && have < q->limit && r == 0) {
			struct pass count = { .q = q };

			r = one_segment(&count, dirfd, list[--k], err);
			have += count.count;
		}
		i = k;
		p.skip = have > q->limit ? have - q->limit : 0;
		p.left = 0;	/* what is written meanwhile is welcome */
	}
	for (; i < n && r == 0 && !p.stop; i++)
		r = one_segment(&p, dirfd, list[i], err);
	free(list);
	if (r == 0 && out_last)
		*out_last = p.last;
	return r;
}

/* ---- one record as text ---------------------------------------------------------- */

/* A personal field: opened, or why not. Appends to @out. */
static int person(int dirfd, const struct audit_record *r, struct span sealed, struct buf *out)
{
	char path[8 + TENANT_ID_MAX] = "keys/";
	CL_BUF struct buf key;
	struct cl_err none;
	int x;

	if (!tenant_id_ok(r->tenant))
		return buf_add_str(out, "[sealed]");
	memcpy(path + 5, r->tenant.p, r->tenant.n);
	path[5 + r->tenant.n] = '\0';
	buf_init(&key, 4096);
	x = cl_read_file(dirfd, path, &key, &none);
	if (x == -ENOENT)
		return buf_add_str(out, "[erased]");
	if (x || key.n != SEAL_KEY_SIZE)
		return buf_add_str(out, "[sealed]");
	x = seal_open(sealed, (const unsigned char *)key.p, out);
	explicit_bzero(key.p, key.n);
	/* sealed with an earlier key of a tenant of that name, which is gone */
	return x == -EBADMSG ? buf_add_str(out, "[erased]") : x;
}

static void value_text(int dirfd, const struct audit_record *r, const struct record_value *v,
		       struct buf *out)
{
	char hex[2 * 64 + 1];

	buf_clear(out);
	if (v->info->type == RT_NUM) {
		(void)buf_printf(out, "%llu", (unsigned long long)v->num);
	} else if (v->sealed) {
		(void)person(dirfd, r, v->bytes, out);
	} else if (v->info->type == RT_BYTES) {
		cl_hex(v->bytes.p, v->bytes.n <= 64 ? v->bytes.n : 64, hex);
		(void)buf_add_str(out, hex);
	} else {
		(void)buf_add_span(out, v->bytes);
	}
}

/* ,"name":value for each field. Failures of @out are sticky, seen by the caller. */
static void fields_json(int dirfd, const struct audit_record *r, struct buf *out)
{
	struct span body = r->body;
	struct record_value v;
	CL_BUF struct buf text;

	buf_init(&text, 65536);
	while (record_next(&body, &v) == 1) {
		value_text(dirfd, r, &v, &text);
		(void)buf_printf(out, ",\"%s\":", v.info->name);
		if (v.info->type == RT_NUM)
			(void)buf_add_span(out, buf_span(&text));
		else
			(void)buf_add_json_str(out, buf_span(&text));
	}
}

static const char *kind_name(const struct audit_record *r, char *buf, size_t n)
{
	if (r->kind)
		return r->kind->name;
	(void)snprintf(buf, n, "kind-%u", r->kind_number);
	return buf;
}

int audit_json(int dirfd, const struct audit_record *r, struct buf *out)
{
	char time[40], name[24], hex[65];

	cl_time_rfc3339((int64_t)r->at_us, time, sizeof time);
	cl_hex(r->chain, sizeof r->chain, hex);
	(void)buf_printf(out, "{\"number\":%llu,\"time\":\"%s\",\"at_us\":%llu,\"sender\":\"%s\",\"kind\":\"%s\"",
			 (unsigned long long)r->number, time, (unsigned long long)r->at_us,
			 wire_role_name(r->sender), kind_name(r, name, sizeof name));
	if (r->must)
		(void)buf_add_str(out, ",\"must\":true");
	if (r->tenant.n) {
		(void)buf_add_str(out, ",\"tenant\":");
		(void)buf_add_json_str(out, r->tenant);
	}
	fields_json(dirfd, r, out);
	(void)buf_printf(out, ",\"chain\":\"%s\"}", hex);
	return out->failed ? -E2BIG : 0;
}

int audit_text(int dirfd, const struct audit_record *r, struct buf *out)
{
	char time[40], name[24], safe[512];
	struct span body = r->body;
	struct record_value v;
	CL_BUF struct buf text;

	cl_time_rfc3339((int64_t)r->at_us, time, sizeof time);
	utf8_scrub(r->tenant, safe, sizeof safe);
	(void)buf_printf(out, "%llu %s %s %s %s", (unsigned long long)r->number, time,
			 wire_role_name(r->sender), safe[0] ? safe : "-",
			 kind_name(r, name, sizeof name));
	buf_init(&text, 65536);
	while (record_next(&body, &v) == 1) {
		value_text(dirfd, r, &v, &text);
		utf8_scrub(buf_span(&text), safe, sizeof safe);
		bool quote = strpbrk(safe, " \"=") || !safe[0];

		(void)buf_printf(out, " %s=%s%s%s", v.info->name, quote ? "\"" : "", safe,
				 quote ? "\"" : "");
	}
	return out->failed ? -E2BIG : 0;
}

/* ---- OCSF -------------------------------------------------------------------------- */

/* Our kinds as classes of the Open Cybersecurity Schema Framework 1.3. Kinds
 * that no class fits are Base Events (0), as the schema asks. */
static const struct { uint32_t kind, category, class; const char *class_name; uint32_t activity; } ocsf[] = {
	{ RECORD_REQUEST_ALLOWED, 6, 6003, "API Activity", 99 },
	{ RECORD_REQUEST_DENIED, 6, 6003, "API Activity", 99 },
	{ RECORD_REQUEST_DONE, 6, 6003, "API Activity", 99 },
	{ RECORD_ADMIN, 6, 6003, "API Activity", 99 },
	{ RECORD_SECRET, 6, 6003, "API Activity", 99 },
	{ RECORD_CONFIG, 6, 6003, "API Activity", 99 },
	{ RECORD_TENANT_STATE, 6, 6002, "Application Lifecycle", 99 },
	{ RECORD_TENANT_RESET, 6, 6002, "Application Lifecycle", 99 },
	{ RECORD_PROGRAM, 6, 6002, "Application Lifecycle", 99 },
	{ RECORD_LEDGER_START, 6, 6002, "Application Lifecycle", 3 },
	{ RECORD_LEDGER_STOP, 6, 6002, "Application Lifecycle", 4 },
	{ RECORD_BOUNDARY, 2, 2004, "Detection Finding", 1 },
	{ RECORD_ALERT, 2, 2004, "Detection Finding", 1 },
};

static uint32_t severity(struct span body)
{
	static const struct { const char *name; uint32_t id; } names[] = {
		{ "info", 1 }, { "low", 2 }, { "medium", 3 }, { "high", 4 }, { "critical", 5 },
	};
	struct record_value v;

	if (!record_find(body, RF_SEVERITY, &v))
		return 1;
	for (size_t i = 0; i < CL_ARRAY_LEN(names); i++)
		if (span_eq_str(v.bytes, names[i].name))
			return names[i].id;
	return 99;
}

int audit_ocsf(int dirfd, const struct audit_record *r, struct buf *out)
{
	uint32_t category = 0, class = 0, activity = 99;
	const char *class_name = "Base Event";
	char name[24];
	struct record_value v;

	for (size_t i = 0; i < CL_ARRAY_LEN(ocsf); i++)
		if (ocsf[i].kind == r->kind_number) {
			category = ocsf[i].category;
			class = ocsf[i].class;
			class_name = ocsf[i].class_name;
			activity = ocsf[i].activity;
		}
	(void)buf_printf(out, "{\"category_uid\":%u,\"class_uid\":%u,\"class_name\":\"%s\",\"activity_id\":%u,"
			 "\"type_uid\":%u,\"time\":%llu,\"severity_id\":%u", category, class, class_name,
			 activity, class * 100 + activity, (unsigned long long)(r->at_us / 1000),
			 severity(r->body));
	if (activity == 99)
		(void)buf_printf(out, ",\"activity_name\":\"%s\"", kind_name(r, name, sizeof name));
	if (r->kind_number == RECORD_REQUEST_DENIED)
		(void)buf_add_str(out, ",\"status_id\":2,\"status\":\"Failure\"");
	if (record_find(r->body, RF_REASON, &v)) {
		(void)buf_add_str(out, ",\"message\":");
		(void)buf_add_json_str(out, v.bytes);
	}
	(void)buf_printf(out, ",\"metadata\":{\"version\":\"1.3.0\",\"sequence\":%llu,\"product\":{\"name\":"
			 "\"Cloister\",\"vendor_name\":\"Cloister\",\"version\":\"" CLOISTER_VERSION "\"},"
			 "\"log_name\":\"ledger\",\"log_provider\":\"%s\"", (unsigned long long)r->number,
			 wire_role_name(r->sender));
	if (r->tenant.n) {
		(void)buf_add_str(out, ",\"tenant_uid\":");
		(void)buf_add_json_str(out, r->tenant);
	}
	(void)buf_printf(out, "},\"unmapped\":{\"kind\":\"%s\"", kind_name(r, name, sizeof name));
	fields_json(dirfd, r, out);
	(void)buf_add_str(out, "}}");
	return out->failed ? -E2BIG : 0;
}
