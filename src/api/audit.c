/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers: reading the ledger. */
#include "api/api.h"
#include "base/programs.h"
#include "record/audit.h"

#include <stdio.h>
#include <string.h>

#define OUT_MAX (32u << 20)	/* one answer */

struct reading {
	bool json;
	struct buf out;
	bool cut;
};

static int one(void *ctx, const struct audit_record *rec)
{
	struct reading *q = ctx;
	CL_BUF struct buf line;
	int r;

	buf_init(&line, 65536);
	r = q->json ? audit_json(API_LEDGER_FD, rec, &line) : audit_text(API_LEDGER_FD, rec, &line);
	if (r == 0 && (buf_add_span(&q->out, buf_span(&line)) || buf_add_ch(&q->out, '\n'))) {
		q->cut = true;
		return 1;
	}
	return r < 0 ? r : 0;
}

void on_audit(struct call *c)
{
	struct audit_query q = { .last = true, .limit = 50 };
	struct reading rd = { .json = span_eq_str(query_get(c->req, "form"), "json") };
	struct span s;
	struct cl_err err = { 0 };
	char tenant[TENANT_ID_MAX + 1], kind[65];
	uint64_t n;

	if ((s = query_get(c->req, "lines")).n) {
		if (num_parse_u64(s, 100000000, &n)) {
			respond_error(c->req, 422, NULL, "lines must be a number");
			return;
		}
		q.limit = n;
		q.last = n != 0;
	}
	if ((s = query_get(c->req, "tenant")).n) {
		if (!tenant_id_ok(s) || span_copy(s, tenant, sizeof tenant)) {
			respond_error(c->req, 422, NULL, "tenant must be a tenant id");
			return;
		}
		q.tenant = tenant;
	}
	if ((s = query_get(c->req, "kind")).n && span_copy(s, kind, sizeof kind) == 0)
		q.kind = kind;
	if ((s = query_get(c->req, "from")).n) {
		if (num_parse_u64(s, UINT64_MAX, &q.from_number)) {
			respond_error(c->req, 422, NULL, "from must be a number");
			return;
		}
		q.last = false;	/* page by page: lines from that number on */
	}
	buf_init(&rd.out, OUT_MAX);
	if (audit_read(API_LEDGER_FD, &q, one, &rd, NULL, &err)) {
		buf_done(&rd.out);
		respond_err(c->req, &err);
		return;
	}
	if (rd.cut)
		cl_log(CL_WARNING, "audit", "cut_at_bytes=%zu", rd.out.n);
	httpd_respond(c->req, 200, rd.json ? "application/x-ndjson" : "text/plain; charset=utf-8",
		      rd.cut ? "Cache-Control: no-store\r\nX-Cloister-Cut: 1\r\n" : "Cache-Control: no-store\r\n",
		      buf_span(&rd.out));
	buf_done(&rd.out);
}

void on_audit_verify(struct call *c)
{
	unsigned char pub[32];
	struct audit_report rep = { 0 };
	struct cl_err err = { 0 };
	char text[CL_ERR_TEXT_MAX + 256], chain[65];
	int r = audit_key_read(API_LEDGER_FD, "ledger.pub", pub, &err);

	if (r) {
		respond_err(c->req, &err);
		return;
	}
	r = audit_verify(API_LEDGER_FD, pub, true, NULL, &rep, &err);
	if (r && r != -EBADMSG) {
		respond_err(c->req, &err);
		return;
	}
	cl_hex(rep.chain, sizeof rep.chain, chain);
	if (r == 0)
		(void)snprintf(text, sizeof text, "%llu records, %llu signed checkpoints; anchor %llu:%s",
			       (unsigned long long)rep.records, (unsigned long long)rep.checkpoints,
			       (unsigned long long)rep.last, chain);
	else
		(void)snprintf(text, sizeof text, "%s (%s)", err.text, rep.place);
	respond(c->req, 200, json_pack("{s:b, s:s, s:I, s:I, s:I, s:I, s:s}", "ok", r == 0, "text", text, "records",
		(json_int_t)rep.records, "checkpoints", (json_int_t)rep.checkpoints, "last", (json_int_t)rep.last,
		"signed_to", (json_int_t)rep.signed_to, "chain", chain));
}
