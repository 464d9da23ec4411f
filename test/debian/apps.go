package debian

// The entry points do what those of the public images do: as root they give the data to
// the user of the server, initialise it the first time, and become that server.

// Redis keeps its data in /data.
var Redis = App{
	Name: "redis:1",
	Packages: []string{
		"redis-server", "redis-tools", "libatomic1", "liblzf1", "libjemalloc2", "libsystemd0", "libcap2", "libgcrypt20", "libgpg-error0",
		"liblzma5", "libzstd1", "liblz4-1",
	},
	Users:   []string{"redis:x:999:999::/data:/bin/sh"},
	Command: []string{"redis-server", "--appendonly", "yes", "--protected-mode", "no", "--dir", "/data"},
	Script: `#!/bin/sh
set -e
if [ "${1#-}" != "$1" ]; then
	set -- redis-server "$@"
fi
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
	find /data ! -user redis -exec chown redis:redis {} +
	exec su redis -s /bin/sh -c 'exec "$0" "$@"' -- "$@"
fi
exec "$@"
`,
}

// Nginx serves /usr/share/nginx/html on the port LISTEN_PORT. (NGINX_PORT would be overwritten:
// Kubernetes sets it to a URL in every pod of a namespace with a Service of the name nginx.)
var Nginx = App{
	Name:     "nginx:1",
	Packages: []string{"nginx", "nginx-common", "libpcre2-8-0"},
	Users:    []string{"www-data:x:33:33::/var/www:/bin/sh"},
	Command:  []string{"nginx", "-g", "daemon off;"},
	Env:      []string{"LISTEN_PORT=80"},
	Files: map[string]string{
		"/docker-entrypoint.d/10-port.sh": "#!/bin/sh\nset -eu\nsed \"s/@PORT@/$LISTEN_PORT/\" /etc/nginx/site.template > /etc/nginx/conf.d/site.conf\n",
		"/etc/nginx/site.template":        "server {\n listen @PORT@;\n root /usr/share/nginx/html;\n}\n",
		"/etc/nginx/nginx.conf":           "user www-data;\nworker_processes 1;\nevents {}\nhttp {\n access_log /dev/stdout;\n include /etc/nginx/conf.d/*.conf;\n}\nerror_log /dev/stderr;\npid /run/nginx.pid;\n",
		"/etc/nginx/conf.d/.keep":         "",
		"/var/lib/nginx/body/.keep":       "",
		"/run/.keep":                      "",
	},
	Script: `#!/bin/sh
set -e
for f in /docker-entrypoint.d/*.sh; do
	"$f"
done
exec "$@"
`,
}

// Postgres keeps its data in PGDATA and makes it the first time, for the user postgres
// with POSTGRES_PASSWORD.
var Postgres = App{
	Name: "postgres:15",
	Packages: []string{
		"postgresql-15", "postgresql-client-15", "libpq5", "libxml2", "libicu72", "libldap-2.5-0", "libsasl2-2", "libgssapi-krb5-2", "libkrb5-3",
		"libk5crypto3", "libkrb5support0", "libcom-err2", "libkeyutils1", "libpam0g", "libaudit1", "libcap-ng0", "libcap2", "libuuid1", "libgnutls30",
		"libp11-kit0", "libidn2-0", "libunistring2", "libtasn1-6", "libnettle8", "libhogweed6", "libgmp10", "libffi8", "libreadline8", "libtinfo6",
		"libedit2", "libbsd0", "libmd0", "libsystemd0", "libgcrypt20", "libgpg-error0", "liblzma5", "libzstd1", "liblz4-1", "tzdata",
	},
	Users:   []string{"postgres:x:998:998::/var/lib/postgresql:/bin/sh"},
	Command: []string{"postgres"},
	Env:     []string{"PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin", "PGDATA=/var/lib/postgresql/data"},
	Files:   map[string]string{"/run/postgresql/.keep": ""},
	Script: `#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA" /run/postgresql
	chown -R postgres:postgres "$PGDATA" /run/postgresql
	chmod 700 "$PGDATA"
	exec su postgres -s /bin/sh -c 'exec "$0" "$@"' -- "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	: "${POSTGRES_PASSWORD:?is not set}"
	printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
	initdb --username=postgres --pwfile=/tmp/password --locale=C --encoding=UTF8 --auth-host=scram-sha-256 --auth-local=trust
	rm /tmp/password
	echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
fi
exec "$@" -c listen_addresses='*' -D "$PGDATA"
`,
}

// NodeExporter reads what the machine shows of itself: /sys, /proc and the mounts.
var NodeExporter = App{
	Name:     "node-exporter:1",
	Packages: []string{"prometheus-node-exporter"},
	Users:    []string{"nobody:x:65534:65534::/:/bin/sh"},
	Script:   "#!/bin/sh\nexec prometheus-node-exporter \"$@\"\n",
}
