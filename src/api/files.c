/* SPDX-License-Identifier: Apache-2.0 */
/* What the api reads of etc, routes, agents and images; the sealed configuration. */
#include "api/api.h"
#include "base/programs.h"
#include "policy/seal.h"

#include <dirent.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NAME_FILE_MAX 160
#define SUMS_MAX (64u << 20)	/* files.sha256 of an image */

/* ---- directories of NAME.yaml -------------------------------------------------------- */

typedef int name_fn(void *ctx, const char *name, struct cl_err *err);

/* each NAME.yaml of the directory @dir below @root_fd (NULL: itself), NAME by @ok; a missing one is empty */
static int each_yaml(int root_fd, const char *dir, bool (*ok)(struct span), name_fn *fn, void *ctx,
		     struct cl_err *err)
{
	int fd = cl_open_beneath(root_fd, dir ? dir : ".", O_RDONLY | O_DIRECTORY, 0), r = 0;
	DIR *d;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return cl_fail(err, -fd, "directory '%s'", dir ? dir : ".");
	d = fdopendir(fd);
	if (!d) {
		r = cl_fail(err, errno, "directory '%s'", dir ? dir : ".");
		(void)cl_close(fd);
		return r;
	}
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		char name[NAME_FILE_MAX];
		struct span s = span_str(e->d_name);

		if (s.n <= 5 || memcmp(s.p + s.n - 5, ".yaml", 5) != 0 || e->d_name[0] == '.')
			continue;
		s.n -= 5;
		if (!ok(s) || span_copy(s, name, sizeof name)) {
			char clean[64];

			utf8_scrub(s, clean, sizeof clean);
			r = cl_fail(err, EINVAL, "%s/%s.yaml: '%s' is not a name that such a file can have",
				    dir ? dir : ".", clean, clean);
			break;
		}
		r = fn(ctx, name, err);
	}
	(void)closedir(d);
	return r;
}

static int read_yaml(int root_fd, const char *path, const struct schema *s, json_t **out, struct cl_err *err)
{
	CL_BUF struct buf text;
	int r;

	buf_init(&text, YAML_BYTES_MAX);
	r = cl_read_file(root_fd, path, &text, err);
	return r ? r : schema_load(s, buf_span(&text), path, out, err);
}

/* ---- cloister.yaml ---------------------------------------------------------------------- */

int files_config(struct api *a, struct cl_err *err)
{
	CL_BUF struct buf text;
	struct config c;
	int r;

	buf_init(&text, YAML_BYTES_MAX);
	r = cl_read_file(API_ETC_FD, "cloister.yaml", &text, err);
	if (r && r != -ENOENT)
		return r;
	r = config_read(buf_span(&text), "cloister.yaml", &c, err);
	if (r)
		return r;
	config_done(&a->cfg);
	a->cfg = c;
	return 0;
}

/* ---- routes ------------------------------------------------------------------------------- */

struct route_dir {
	json_t *all;
	int fd;
	const char *dir;
};

static int read_route(void *ctx, const char *name, struct cl_err *err)
{
	struct route_dir *d = ctx;
	char path[NAME_FILE_MAX * 2];
	json_t *v = NULL;
	const char *said;
	int r;

	if (json_object_size(d->all) >= API_ROUTES_MAX)
		return cl_fail(err, EFBIG, "more than %d routes", API_ROUTES_MAX);
	(void)snprintf(path, sizeof path, "%s%s%s.yaml", d->dir ? d->dir : "", d->dir ? "/" : "", name);	/* fits */
	r = read_yaml(d->fd, path, &route_schema, &v, err);
	if (r)
		return r;
	said = json_string_value(json_object_get(v, "name"));
	if (said && strcmp(said, name) != 0) {
		r = cl_fail(err, EINVAL, "%s: name: '%s' is not the file's own", path, said);
		json_decref(v);
		return r;
	}
	if (json_object_set_new(v, "name", json_string(name)) || json_object_set_new(d->all, name, v))
		return cl_fail(err, ENOMEM, "%s: no memory", path);
	return 0;
}

int files_routes(struct api *a, struct cl_err *err)
{
	struct route_dir shipped = { json_object(), API_ROUTES_FD, NULL };
	struct route_dir own = { shipped.all, API_ETC_FD, "routes" };
	int r = each_yaml(API_ROUTES_FD, NULL, name_ok, read_route, &shipped, err);

	/* the operator's own of the same name replaces the shipped one */
	if (r == 0)
		r = each_yaml(API_ETC_FD, "routes", name_ok, read_route, &own, err);
	if (r) {
		json_decref(shipped.all);
		return r;
	}
	json_decref(a->routes);
	a->routes = shipped.all;
	return 0;
}

/* ---- tenants' files ------------------------------------------------------------------------- */

int files_tenant_yaml(const char *id, struct buf *out, struct cl_err *err)
{
	char path[NAME_FILE_MAX];

	(void)snprintf(path, sizeof path, "tenants/%s.yaml", id);	/* ids are short */
	return cl_read_file(API_ETC_FD, path, out, err);
}

struct ids {
	files_id_fn *fn;
	void *ctx;
};

static int one_id(void *ctx, const char *name, struct cl_err *err)
{
	struct ids *i = ctx;

	(void)err;
	return i->fn(i->ctx, name);
}

int files_tenants(files_id_fn *fn, void *ctx, struct cl_err *err)
{
	struct ids i = { fn, ctx };

	return each_yaml(API_ETC_FD, "tenants", tenant_id_ok, one_id, &i, err);
}

/* ---- agents ------------------------------------------------------------------------------------ */

int files_agents(struct api *a, struct cl_err *err)
{
	json_t *all = json_object();
	DIR *d;
	int fd = cl_open_beneath(API_AGENTS_FD, ".", O_RDONLY | O_DIRECTORY, 0), r = 0;

	if (fd < 0) {
		json_decref(all);
		return cl_fail(err, -fd, "agents directory");
	}
	d = fdopendir(fd);
	if (!d) {
		r = cl_fail(err, errno, "agents directory");
		(void)cl_close(fd);
	}
	for (struct dirent *e; d && r == 0 && (e = readdir(d));) {
		char path[NAME_FILE_MAX * 2];
		json_t *v = NULL;

		if (!name_ok(span_str(e->d_name)))
			continue;
		(void)snprintf(path, sizeof path, "%s/agent.yaml", e->d_name);	/* names are short */
		r = read_yaml(API_AGENTS_FD, path, &agent_schema, &v, err);
		if (r == -ENOENT || r == -ENOTDIR) {
			r = 0;	/* a helper of the recipes, not an agent */
			continue;
		}
		if (r == 0 && json_object_set_new(all, e->d_name, v))
			r = cl_fail(err, ENOMEM, "%s: no memory", path);
	}
	if (d)
		(void)closedir(d);
	if (r) {
		json_decref(all);
		return r;
	}
	json_decref(a->agents);
	a->agents = all;
	return 0;
}

/* a file that the agent's own directory has; @name from agent.yaml */
static int agent_file(const char *agent, const char *name, struct buf *out, struct cl_err *err)
{
	char path[512];

	if (!name)
		return 0;
	(void)snprintf(path, sizeof path, "%s/%s", agent, name);	/* schema: 64 and 200 bytes */
	return cl_read_file(API_AGENTS_FD, path, out, err);
}

static void sha256_hex(const void *p, size_t n, char out[65])
{
	unsigned char h[crypto_hash_sha256_BYTES];

	(void)crypto_hash_sha256(h, p, n);	/* cannot fail */
	cl_hex(h, sizeof h, out);
}

/* bytes that nobody can change any more */
static int seal_fd(struct span text, struct cl_err *err)
{
	int fd = memfd_create("agent-configuration", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

	if (fd < 0)
		return cl_fail(err, errno, "memfd");
	r = cl_write_full(fd, text.p, text.n);
	if (r == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		r = -errno;
	if (r) {
		(void)cl_close(fd);
		return cl_fail(err, -r, "memfd: seal");
	}
	return fd;
}

int files_sealed(struct api *a, const struct sealed_facts *f, int *out_fd, char digest[65],
		 struct cl_err *err)
{
	CL_BUF struct buf template, safety;
	const json_t *agent = json_object_get(a->agents, f->agent);
	const char *name = json_string_value(json_object_get(agent, "config_template"));
	struct buf out;
	int r;

	if (!agent)
		return cl_fail(err, ENOENT, "no agent '%s' in share/cloister/agents", f->agent);
	buf_init(&template, SEAL_MAX);
	buf_init(&safety, SEAL_MAX);
	*out_fd = -1;
	digest[0] = '\0';
	if (!name)
		return 0;	/* an agent without a configuration of ours */
	r = agent_file(f->agent, name, &template, err);
	if (r == 0)
		r = agent_file(f->agent, json_string_value(json_object_get(agent, "config_safety")), &safety, err);
	if (r)
		return cl_wrap(err, "agent '%s'", f->agent);
	buf_init(&out, SEAL_MAX);
	/* all at once: a buffer that grows leaves copies of the tokens behind */
	if (buf_reserve(&out, SEAL_MAX)) {
		buf_done(&out);
		return cl_fail(err, ENOMEM, "no memory");
	}
	r = seal_render(buf_span(&template), buf_span(&safety), f->values, f->nvalues, &out, err);
	if (r == 0) {
		sha256_hex(out.p, out.n, digest);
		r = seal_fd(buf_span(&out), err);
		if (r >= 0) {
			*out_fd = r;
			r = 0;
		}
	}
	buf_wipe_done(&out);
	return r ? cl_wrap(err, "agent '%s'", f->agent) : 0;
}

int files_image_digest(const char *name, char digest[65], struct cl_err *err)
{
	crypto_hash_sha256_state st;
	unsigned char h[crypto_hash_sha256_BYTES];
	char path[NAME_FILE_MAX], piece[65536];
	size_t total = 0;

	(void)snprintf(path, sizeof path, "%s/files.sha256", name);	/* names are short */
	CL_CLOSE int fd = cl_open_beneath(API_IMAGES_FD, path, O_RDONLY, 0);

	if (fd == -ENOENT)
		return cl_fail(err, ENOENT, "the image '%s' is missing: make it with agents/%s/build-image", name,
			       name);
	if (fd < 0)
		return cl_fail(err, -fd, "image '%s'", name);
	(void)crypto_hash_sha256_init(&st);
	for (;;) {
		ssize_t n = read(fd, piece, sizeof piece);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cl_fail(err, errno, "image '%s'", name);
		if (n == 0)
			break;
		total += (size_t)n;
		if (total > SUMS_MAX)
			return cl_fail(err, EFBIG, "image '%s': its list of files is too long", name);
		(void)crypto_hash_sha256_update(&st, (const unsigned char *)piece, (unsigned long long)n);
	}
	(void)crypto_hash_sha256_final(&st, h);
	cl_hex(h, sizeof h, digest);
	return 0;
}
