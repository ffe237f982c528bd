"""Runs forwarders over the same work, in alternation, and prints a table. Called by run.sh; --help tells the options."""
import argparse, json, os, signal, statistics, subprocess, sys, tempfile, threading, time, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.environ['BENCH_OUT']
BIN = os.path.join(OUT, 'bin')
SCENARIOS = {  # messages: for each user; seen: how many of them an earlier poll had; rtt in ms
    'A': dict(users=1, messages=5000, size='4k', rtt=0, smtp_rtt=0),
    'B': dict(users=1, messages=500, size='20k', rtt=40, smtp_rtt=20),
    'C': dict(users=200, messages=0, seen=1000, size='4k', rtt=40, smtp_rtt=20),
    'D': dict(users=200, messages=5, size='10k', rtt=40, smtp_rtt=20),
    'E': dict(users=1, messages=1, size='100m', rtt=0, smtp_rtt=0),
    'F': dict(users=1, messages=10, seen=100000, size='4k', rtt=0, smtp_rtt=0),
}
PEERS = ['mailferry', 'fetchmail', 'getmail', 'getmail-mda', 'mpop', 'fdm', 'naive', 'naive-pool']
MORE = ['fetchmail-p16', 'mpop-maildir']  # only when named
QUICK = [  # without a scenario: each of them once, small enough for a few minutes in all
    ('A', '--messages 1000 --peers mailferry,getmail,fdm,naive-pool'),
    ('B', '--messages 50 --peers mailferry,fetchmail,getmail,mpop,fdm,naive-pool'),
    ('C', '--users 50 --peers mailferry,fetchmail,mpop,fdm,naive'),
    ('D', '--users 10 --peers mailferry,fetchmail,mpop,fdm,naive-pool'),
    ('E', '--peers mailferry,fetchmail,mpop,fdm'),
    ('F', '--peers mailferry,fetchmail,mpop,fdm,naive-pool'),
]
RAW = BIN + '/raw'
TO_POP = '--host $POP3_HOST --port $POP3_PORT --users $USERS --user-prefix $USER_PREFIX --pass $PASS'
TO_SMTP = '--host $SMTP_HOST --port $SMTP_PORT --users $USERS --user-prefix $USER_PREFIX --messages $MESSAGES --size $SIZE'
LIMITS = {  # no forwarders: only one half of the work each (limit-both*: the two halves side by side)
    'limit-pop': f'{RAW} pop {TO_POP} --conns $CONNS --delete $((1-KEEP))',
    'limit-pop-seq': f'{RAW} pop {TO_POP} --conns $CONNS --delete $((1-KEEP)) --window 1',
    'limit-scan': f'{RAW} pop {TO_POP} --conns $CONNS --scan',
    'limit-both': f'{RAW} pop {TO_POP} --conns $CONNS --delete $((1-KEEP)) & {RAW} smtp {TO_SMTP} --mode pipe --conns $CONNS; wait',
    'limit-both-bdat': f'{RAW} pop {TO_POP} --conns $CONNS --delete $((1-KEEP)) & {RAW} smtp {TO_SMTP} --mode bdat --conns $CONNS; wait',
    **{f'limit-smtp-{m}': f'{RAW} smtp {TO_SMTP} --mode {m} --conns $CONNS' for m in ('plain', 'pipe', 'bdat')},
}


class Server:
    def __init__(self, name, *args):
        self.p = subprocess.Popen([os.path.join(BIN, name), *map(str, args)], stdout=subprocess.PIPE)
        ports = json.loads(self.p.stdout.readline())
        self.port, self.ctl = ports['port'], ports['ctl']

    def get(self, path):
        with urllib.request.urlopen(f'http://127.0.0.1:{self.ctl}/{path}', timeout=30) as r:
            return r.read().decode()

    def stop(self):
        self.p.terminate()
        self.p.communicate()


def descendants(pid):
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for t in os.listdir(f'/proc/{pid}/task'):
                with open(f'/proc/{pid}/task/{t}/children') as f:
                    todo += [int(c) for c in f.read().split()]
        except OSError:
            pass
    return found


def memory(pid, file='smaps_rollup', key='Pss:'):  # kB; Pss: shared pages split among those who share them
    try:
        with open(f'/proc/{pid}/{file}') as f:
            for line in f:
                if line.startswith(key):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def cpu(pid):
    try:
        with open(f'/proc/{pid}/stat') as f:
            v = f.read().rsplit(')', 1)[1].split()
        return (int(v[11]) + int(v[12])) / os.sysconf('SC_CLK_TCK')
    except OSError:
        return 0.0


def watched(cmd, env, log, timeout, extra):
    """Runs cmd; wall, CPU of it and all it waited for (and of the extra pids), peak memory of the whole tree."""
    before = {p: cpu(p) for p in extra}
    start = time.monotonic()
    p = subprocess.Popen(['bash', '-c', cmd], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    r = dict(peak_kb=0, cut=False, procs=0)
    done = threading.Event()

    def sample():  # ru_maxrss is no use: it starts from this python's own
        took = 0
        while not done.wait(max(took * 10, 0.005 if time.monotonic() - start < 0.1 else 0.05)):  # at most a tenth of a core
            began = time.thread_time()
            tree = descendants(p.pid)
            r['procs'] = max(r['procs'], len(tree))
            hwm = max(memory(pid, 'status', 'VmHWM:') for pid in tree)
            r['peak_kb'] = max(r['peak_kb'], sum(map(memory, tree + extra)), hwm + sum(map(memory, extra)))
            if time.monotonic() - start > timeout and not r['cut']:
                r['cut'] = True
                for pid in tree:  # only what this run started
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except OSError:
                        pass
            took = time.thread_time() - began
    t = threading.Thread(target=sample)
    t.start()
    _, status, use = os.wait4(p.pid, 0)
    r['wall'] = time.monotonic() - start
    done.set()
    t.join()
    p.returncode = r['rc'] = os.waitstatus_to_exitcode(status)
    r['cpu'] = use.ru_utime + use.ru_stime + sum(cpu(x) - before[x] for x in extra)
    r['user'], r['sys'] = use.ru_utime, use.ru_stime
    return r


def helpers(work):  # what the prime phase started
    try:
        with open(work + '/state/pids') as f:
            return [int(x) for x in f.read().split()]
    except OSError:
        return []


def one(peer, cmd, sc, a):
    work = tempfile.mkdtemp(prefix='run-', dir=OUT)
    os.chmod(work, 0o755)
    seen, new = sc.get('seen', 0), sc['messages']
    keep = 1 if seen else 0
    common = ['--quickack'] if a.quickack else []
    pop = Server('pop3d', '--users', sc['users'], '--messages', seen or new, '--size', sc['size'], '--rtt', sc['rtt'], *common, *a.pop_opts.split())
    sink = Server('http-sink' if a.sink == 'http' else 'smtpd-sink', '--rtt', sc['smtp_rtt'], *common, *a.sink_opts.split())
    try:
        os.mkdir(work + '/state')
        with open(work + '/users.txt', 'w') as f:
            f.writelines(f'u{i}\n' for i in range(1, sc['users'] + 1))
        with open(work + '/seen.tsv', 'w') as f:
            f.write(pop.get('uids') if keep else '')
        env = dict(os.environ, POP3_HOST='127.0.0.1', POP3_PORT=str(pop.port), SMTP_HOST='127.0.0.1', SMTP_PORT=str(sink.port),
                   HTTP_URL=f'http://127.0.0.1:{sink.port}/hook', SINK=a.sink, USERS=str(sc['users']), USER_PREFIX='u', PASS='secret',
                   USERS_FILE=work + '/users.txt', SEEN_FILE=work + '/seen.tsv', WORKDIR=work + '/state', KEEP=str(keep),
                   MAIL_FROM='sender@bench.example', RCPT='inbox@bench.example', EXPECT=str(sc['users'] * new),
                   MESSAGES=str(new), SIZE=sc['size'], CONNS=str(a.conns or min(16, max(1, sc['users']))), BENCH_OUT=OUT)
        with open(work + '/log', 'wb') as log:
            if not peer.startswith('limit-'):
                if subprocess.run(['bash', '-c', cmd], env=dict(env, PHASE='prime'), stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=300).returncode:
                    sys.exit(f'{peer}: its prime phase failed, log {work}/log')
            if keep:
                pop.get(f'add?{new}')
            pop.get('reset'), sink.get('reset')
            c0 = cpu(pop.p.pid) + cpu(sink.p.pid)
            r = watched(cmd, dict(env, PHASE='run'), log, a.timeout, a.pid + helpers(work))
            r['server_cpu'] = cpu(pop.p.pid) + cpu(sink.p.pid) - c0
        time.sleep(0.05)
        p, s = json.loads(pop.get('stats')), json.loads(sink.get('stats'))
    finally:
        pop.stop(), sink.stop()
        for pid in helpers(work):
            while os.path.exists(f'/proc/{pid}'):
                os.kill(pid, signal.SIGTERM)
                time.sleep(0.2)
    want = sc['users'] * new
    deleted = p['committed'] if not keep else want
    good = s['unique'] == want and deleted == want and s['dups'] == 0
    proof = p['digest_retr'] if keep else p['digest_deleted']
    r.update(peer=peer, want=want, got=s['unique'], deleted=p['committed'], dups=s['dups'], left=p['left'], users=sc['users'],
             same_bytes=s['digest'] == proof and s['unique'] > 0, ok=good and r['rc'] in (0, 1 if peer == 'fetchmail' else 0), pop=p, sink=s,
             active=(max(p['last_ns'], s['last_ns']) - min(filter(None, (p['first_ns'], s['first_ns'])), default=0)) / 1e9)
    if peer.startswith('limit-'):
        r['got'] = max(s['unique'], p['retr_unique'])
        r['ok'] = r['rc'] == 0 and (r['got'] == want or peer == 'limit-scan' and p['logins'] == sc['users'])
    if not r['ok'] and not r['cut']:
        print(f'  {peer}: rc {r["rc"]}, log {work}/log', file=sys.stderr)
    elif not a.keep_work:
        subprocess.run(['rm', '-rf', work])
    return r


def table(sc, rows):
    scan = not sc['messages']
    print(f'\n| peer | {"accounts/s" if scan else "msgs/s"} | wall s (min-max) | active s | CPU s (user+sys) | CPU ms/{"account" if scan else "msg"} | peak MB | processes '
          f'| POP3 round trips/{"account" if scan else "msg"} | SMTP round trips/msg | POP3 / SMTP connections | servers\' CPU s | delivered, deleted, dups, bytes |')
    print('|' + '---|' * 13)
    for peer, rs in rows.items():
        med = lambda f: statistics.median(f(r) for r in rs)
        last = rs[-1]
        n = max(1, last['users'] if scan else med(lambda r: r['got']))
        walls = [r['wall'] for r in rs]
        rate = med(lambda r: (r['users'] if scan else r['got']) / r['wall'])
        notes = ['cut' if any(r['cut'] for r in rs) else 'ok' if all(r['ok'] for r in rs) else 'FAILED']
        if peer.startswith('limit-'):
            proof = notes[0]
        else:
            proof = f'{notes[0]}: {last["got"]}/{last["want"]}, {last["deleted"]}, {sum(r["dups"] for r in rs)}, ' + \
                ('same' if all(r['same_bytes'] for r in rs) else 'none' if not last['got'] else 'CHANGED')
        def num(v):
            return f'{v:,.0f}' if v >= 100 else f'{v:.1f}' if v >= 1 else f'{v:.2f}'
        print(f'| {peer}{" (" + str(last["users"]) + " users)" if last["users"] != sc["users"] else ""} | {num(rate)} | {statistics.median(walls):.2f} ({min(walls):.2f}-{max(walls):.2f}) '
              f'| {med(lambda r: r["active"]):.2f} | {med(lambda r: r["cpu"]):.2f} ({med(lambda r: r["user"]):.2f}+{med(lambda r: r["sys"]):.2f}) | {med(lambda r: r["cpu"]) / n * 1000:.2f} '
              f'| {med(lambda r: r["peak_kb"]) / 1024:.1f} | {max(r["procs"] for r in rs)} | {med(lambda r: r["pop"]["trips"]) / n:.2f} | {med(lambda r: r["sink"]["trips"]) / n:.2f} '
              f'| {med(lambda r: r["pop"]["connections"]):.0f} / {med(lambda r: r["sink"]["connections"]):.0f} | {med(lambda r: r["server_cpu"]):.2f} | {proof} |')


def arguments():
    ap = argparse.ArgumentParser(prog='run.sh', description='POP3 forwarders over the same work: A-F, see README.md')
    ap.add_argument('scenario', nargs='*', metavar='A-F', help='default: a small one of each, once')
    ap.add_argument('--with', dest='cmd', action='append', default=[], metavar='CMD', help='another forwarder (README.md: what it gets and must do)')
    ap.add_argument('--name', action='append', default=[], help='its name in the table, one for each --with')
    ap.add_argument('--peers', default=','.join(PEERS), help=f'of {",".join(PEERS + MORE)}, {",".join(LIMITS)}; "" for none; default: {",".join(PEERS)}')
    ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--timeout', type=float, default=58, help='seconds; what runs longer is cut, its rate taken from what it did')
    ap.add_argument('--sink', choices=['smtp', 'http'], default='smtp')
    ap.add_argument('--quickack', action='store_true', help='servers acknowledge at once (see src/common.h)')
    ap.add_argument('--pid', type=int, action='append', default=[], help='a helper running already (redis-server) whose CPU and memory count too')
    ap.add_argument('--conns', type=int, help='connections of the limit-* clients; default: as many as accounts, at most 16')
    for k in ('users', 'messages', 'seen', 'rtt', 'smtp-rtt'):
        ap.add_argument('--' + k, type=int, help='instead of the scenario\'s')
    ap.add_argument('--size', help='instead of the scenario\'s')
    ap.add_argument('--pop-opts', default='', help='more options for pop3d')
    ap.add_argument('--sink-opts', default='', help='more options for the sink, as "--fail4 0.1 --proc 5"')
    ap.add_argument('--json', help='append every run to this file, a JSON object a line')
    ap.add_argument('--keep-work', action='store_true')
    return ap


def main():
    ap = arguments()
    a = ap.parse_args()
    if set(a.scenario) - set(SCENARIOS):
        ap.error(f'scenarios are {", ".join(SCENARIOS)}')
    if a.scenario:
        compare(a)
    else:
        for scenario, options in QUICK:
            compare(ap.parse_args([scenario, '--rounds', '1', *options.split(), *sys.argv[1:]]))


def compare(a):
    todo = {p: LIMITS.get(p) or os.path.join(HERE, 'peers', p + '.sh') for p in filter(None, a.peers.split(','))}
    for i, c in enumerate(a.cmd):
        todo[a.name[i] if i < len(a.name) else f'with-{i + 1}'] = c
    for name in a.scenario:
        sc = dict(SCENARIOS[name])
        for k in ('users', 'messages', 'seen', 'rtt', 'smtp_rtt', 'size'):
            if getattr(a, k) is not None:
                sc[k] = getattr(a, k)
        rows = {p: [] for p in todo}
        for n in range(a.rounds):
            for peer in (list(todo) if n % 2 == 0 else list(todo)[::-1]):
                r = one(peer, todo[peer], sc, a)
                rows[peer].append(r)
                print(f'  {name} round {n + 1} {peer}: {r["wall"]:.2f} s, {r["got"]}/{r["want"]}', file=sys.stderr, flush=True)
                if a.json:
                    with open(a.json, 'a') as f:
                        f.write(json.dumps(dict(r, scenario=name, quickack=a.quickack, params=sc)) + '\n')
        print(f'\nScenario {name}: {json.dumps(sc)}{" quickack" if a.quickack else ""}, {a.rounds} rounds, medians')
        table(sc, rows)
        sys.stdout.flush()


main()
