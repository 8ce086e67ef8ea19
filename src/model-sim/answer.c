/* SPDX-License-Identifier: Apache-2.0 */
#include "model-sim/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PIECE 24	/* bytes of text in one event, about */
#define DIMS_DEFAULT 1536
#define DIMS_MAX 4096
#define INPUTS_MAX 256

static uint64_t tokens_out(const struct thought *t)
{
	return t->text.n / 4 + (t->tool[0] ? 24 : 1);
}

/* The arguments of a call: JSON in a string. */
static int add_args(const struct thought *t, struct buf *out)
{
	char *s = json_dumps(t->args, JSON_COMPACT);
	int r = s ? buf_add_json_str(out, span_str(s)) : -ENOMEM;

	free(s);
	return r;
}

static void add_usage(const struct thought *t, uint64_t in, struct buf *out)
{
	(void)buf_printf(out, "\"usage\":{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,"
			 "\"total_tokens\":%llu,\"prompt_tokens_details\":{\"cached_tokens\":0}}",
			 (unsigned long long)in, (unsigned long long)tokens_out(t),
			 (unsigned long long)(in + tokens_out(t)));
}

int answer_whole(const struct thought *t, const char *id, int64_t now_s, uint64_t tokens_in,
		 struct buf *out)
{
	(void)buf_printf(out, "{\"id\":\"chatcmpl-%s\",\"object\":\"chat.completion\",\"created\":%lld,"
			 "\"model\":\"" ANSWER_MODEL "\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
			 "\"assistant\",\"content\":", id, (long long)now_s);
	if (t->tool[0]) {
		(void)buf_printf(out, "null,\"tool_calls\":[{\"id\":\"call_%s\",\"type\":\"function\","
				 "\"function\":{\"name\":\"%s\",\"arguments\":", id, t->tool);
		if (add_args(t, out))
			return -ENOMEM;
		(void)buf_add_str(out, "}}]},\"finish_reason\":\"tool_calls\"}],");
	} else {
		(void)buf_add_json_str(out, buf_span(&t->text));
		(void)buf_add_str(out, "},\"finish_reason\":\"stop\"}],");
	}
	add_usage(t, tokens_in, out);
	(void)buf_add_ch(out, '}');
	return out->failed ? -ENOMEM : 0;
}

static void event_head(const char *id, int64_t now_s, struct buf *out)
{
	(void)buf_printf(out, "data: {\"id\":\"chatcmpl-%s\",\"object\":\"chat.completion.chunk\","
			 "\"created\":%lld,\"model\":\"" ANSWER_MODEL "\",", id, (long long)now_s);
}

static void event_delta(const char *id, int64_t now_s, const char *delta, const char *finish,
			struct buf *out)
{
	event_head(id, now_s, out);
	(void)buf_printf(out, "\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]}\n\n", delta,
			 finish);
}

/* The text in pieces of whole characters. */
static void stream_text(const struct thought *t, const char *id, int64_t now_s, struct buf *out)
{
	struct span s = buf_span(&t->text);

	while (s.n) {
		size_t n = s.n < PIECE ? s.n : PIECE;

		while (n < s.n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
			n++;
		event_head(id, now_s, out);
		(void)buf_add_str(out, "\"choices\":[{\"index\":0,\"delta\":{\"content\":");
		(void)buf_add_json_str(out, (struct span){ s.p, n });
		(void)buf_add_str(out, "},\"finish_reason\":null}]}\n\n");
		s = (struct span){ s.p + n, s.n - n };
	}
}

int answer_stream(const struct thought *t, const char *id, int64_t now_s, uint64_t tokens_in,
		  bool usage, struct buf *out)
{
	event_delta(id, now_s, "{\"role\":\"assistant\",\"content\":\"\"}", "null", out);
	if (t->tool[0]) {
		event_head(id, now_s, out);
		(void)buf_printf(out, "\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,"
				 "\"id\":\"call_%s\",\"type\":\"function\",\"function\":{\"name\":\"%s\","
				 "\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n", id, t->tool);
		event_head(id, now_s, out);
		(void)buf_add_str(out, "\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,"
				  "\"function\":{\"arguments\":");
		if (add_args(t, out))
			return -ENOMEM;
		(void)buf_add_str(out, "}}]},\"finish_reason\":null}]}\n\n");
	} else {
		stream_text(t, id, now_s, out);
	}
	event_delta(id, now_s, "{}", t->tool[0] ? "\"tool_calls\"" : "\"stop\"", out);
	if (usage) {
		event_head(id, now_s, out);
		(void)buf_add_str(out, "\"choices\":[],");
		add_usage(t, tokens_in, out);
		(void)buf_add_str(out, "}\n\n");
	}
	(void)buf_add_str(out, "data: [DONE]\n\n");
	return out->failed ? -ENOMEM : 0;
}

int answer_models(struct buf *out)
{
	return buf_add_str(out, "{\"object\":\"list\",\"data\":[{\"id\":\"" ANSWER_MODEL
			   "\",\"object\":\"model\",\"created\":0,\"owned_by\":\"cloister\"}]}");
}

int answer_error(const char *type, const char *text, struct buf *out)
{
	(void)buf_printf(out, "{\"error\":{\"type\":\"%s\",\"code\":null,\"param\":null,\"message\":", type);
	(void)buf_add_json_str(out, span_str(text));
	return buf_add_str(out, "}}");
}

/* ---- embeddings ---------------------------------------------------------------- */

/* Trigrams of lower-case ASCII, counted into @dims places, length 1: enough
 * that texts which share words lie near each other. */
static void embed(struct span s, float *v, size_t dims)
{
	double sum = 0;

	memset(v, 0, dims * sizeof *v);
	for (size_t i = 0; i + 2 < s.n; i++) {
		uint32_t h = 2166136261u;

		for (size_t k = 0; k < 3; k++) {
			unsigned char c = (unsigned char)s.p[i + k];

			h = (h ^ (c >= 'A' && c <= 'Z' ? (uint32_t)c + 32 : c)) * 16777619u;
		}
		v[h % dims] += 1.0f;
	}
	for (size_t i = 0; i < dims; i++)
		sum += (double)v[i] * (double)v[i];
	if (sum <= 0) {
		v[0] = 1.0f;
		return;
	}
	for (size_t i = 0; i < dims; i++)
		v[i] = (float)((double)v[i] / sqrt(sum));
}

static void add_base64(const unsigned char *p, size_t n, struct buf *out)
{
	static const char d[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
			     (i + 2 < n ? p[i + 2] : 0);
		char q[4] = { d[v >> 18], d[v >> 12 & 63], i + 1 < n ? d[v >> 6 & 63] : '=',
			      i + 2 < n ? d[v & 63] : '=' };

		(void)buf_add(out, q, sizeof q);
	}
}

static void add_vector(const json_t *input, size_t index, size_t dims, bool base64, float *v,
		       struct buf *out)
{
	embed((struct span){ json_string_value(input), json_string_length(input) }, v, dims);
	(void)buf_printf(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", index ? "," : "",
			 index);
	if (base64) {		/* little endian floats, as clients expect */
		(void)buf_add_ch(out, '"');
		add_base64((const unsigned char *)v, dims * sizeof *v, out);
		(void)buf_add_str(out, "\"}");
		return;
	}
	for (size_t i = 0; i < dims; i++)
		(void)buf_printf(out, "%c%.6g", i ? ',' : '[', (double)v[i]);
	(void)buf_add_str(out, "]}");
}

int answer_embeddings(const json_t *request, struct buf *out, struct cl_err *err)
{
	const json_t *input = json_object_get(request, "input"), *d = json_object_get(request, "dimensions");
	const char *format = json_string_value(json_object_get(request, "encoding_format"));
	json_int_t want = json_is_integer(d) ? json_integer_value(d) : DIMS_DEFAULT;
	size_t n = json_is_string(input) ? 1 : json_array_size(input), bytes = 0;
	bool base64 = format && strcmp(format, "base64") == 0;

	if (n == 0 || n > INPUTS_MAX || want < 1 || want > DIMS_MAX)
		return cl_fail(err, EINVAL, "'input' must be 1 to %d texts, 'dimensions' 1 to %d",
			       INPUTS_MAX, DIMS_MAX);
	float *v = calloc((size_t)want, sizeof *v);

	if (!v)
		return cl_fail(err, ENOMEM, "no memory");
	(void)buf_add_str(out, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < n; i++) {
		const json_t *one = json_is_string(input) ? input : json_array_get(input, i);

		if (!json_is_string(one)) {
			free(v);
			return cl_fail(err, EINVAL, "'input' must be texts");
		}
		bytes += json_string_length(one);
		add_vector(one, i, (size_t)want, base64, v, out);
	}
	free(v);
	(void)buf_printf(out, "],\"model\":\"" ANSWER_MODEL "\",\"usage\":{\"prompt_tokens\":%zu,"
			 "\"total_tokens\":%zu}}", bytes / 4 + 1, bytes / 4 + 1);
	return out->failed ? cl_fail(err, ENOMEM, "the answer is too large") : 0;
}
