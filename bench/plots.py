"""Draws how cost grows: run by `npm run bench -- --plots DIR`, which takes some five minutes. Plain SVG, no library.

    accounts.svg   idle polls of 50 to 400 accounts (C): seconds, memory       messages.svg   500 to 20,000 messages (A): seconds, CPU
    kept.svg       1,000 to 1,000,000 kept messages, ten new (F): seconds      size.svg       a message of 1 to 200 MB (E): seconds, memory
"""
import json, math, os, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
COLOURS = {'mailferry': '#0b7285', 'fetchmail': '#e8590c', 'fdm': '#868e96', 'mpop': '#5f3dc4'}
PLOTS = [
    ('accounts', 'C', '--users', [50, 100, 200, 400], 'mailferry,fdm', 'accounts, polled once, nothing new', ['seconds', 'MB']),
    ('messages', 'A', '--messages', [500, 2000, 5000, 20000], 'mailferry,fetchmail', 'messages of 4 KB', ['seconds', 'CPU ms a message']),
    ('kept', 'F', '--seen', [1000, 10000, 100000, 1000000], 'mailferry,fdm', 'messages kept, ten new ones', ['seconds', 'MB']),
    ('size', 'E', '--size', [1, 10, 50, 100, 200], 'mailferry,fdm', 'MB, one message', ['seconds', 'MB']),
]
VALUE = {
    'seconds': lambda r: r['active'],
    'MB': lambda r: r['peak_kb'] / 1024,
    'CPU ms a message': lambda r: r['cpu'] * 1000 / max(1, r['got']),
}
W, H, LEFT, BOTTOM, TOP = 460, 260, 60, 44, 34


def measure(scenario, option, values, peers, rounds):
    """peer -> what -> [(x, median)]"""
    found = {}
    for value in values:
        with tempfile.NamedTemporaryFile(suffix='.json') as out:
            given = f'{value}m' if option == '--size' else str(value)
            subprocess.run([sys.executable, f'{HERE}/run.py', scenario, option, given, '--peers', peers, '--rounds', str(rounds),
                            '--quickack', '--timeout', '120', '--json', out.name], check=True, stdout=subprocess.DEVNULL)
            runs = [json.loads(line) for line in open(out.name)]
        for peer in peers.split(','):
            own = [r for r in runs if r['peer'] == peer and r['ok'] and not r['cut']]
            if own:
                found.setdefault(peer, []).append((value, own))
    return found


def svg(title, what, points):
    """One chart, both axes logarithmic where the values spread over more than a factor of 20."""
    xs = [x for line in points.values() for x, _ in line]
    ys = [y for line in points.values() for _, y in line]
    log_x, log_y = max(xs) / min(xs) > 20, max(ys) / max(min(ys), 1e-9) > 20
    low = min(ys) / 1.5 if log_y else 0
    place = lambda v, lo, hi, log: (math.log(v / lo) / math.log(hi / lo)) if log else (v - lo) / (hi - lo)
    px = lambda x: LEFT + (W - LEFT - 20) * place(x, min(xs) if log_x else 0, max(xs), log_x)
    py = lambda y: H - BOTTOM - (H - BOTTOM - TOP) * place(y, low, max(ys) * 1.1, log_y)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="sans-serif" font-size="11">',
             f'<rect width="{W}" height="{H}" fill="white"/>', f'<text x="{LEFT}" y="16" font-size="12">{what}</text>']
    ticks = [10 ** k for k in range(-3, 7)] if log_y else [max(ys) * k / 4 for k in range(5)]
    for y in ticks:
        if low <= y <= max(ys) * 1.1 and (y > 0 or not log_y):
            parts.append(f'<line x1="{LEFT}" x2="{W - 20}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#e9ecef"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{y:.3g}</text>')
    for x in sorted(set(xs)):
        parts.append(f'<text x="{px(x):.1f}" y="{H - BOTTOM + 16}" text-anchor="middle">{x:,}</text>')
    parts.append(f'<text x="{(LEFT + W - 20) / 2}" y="{H - 8}" text-anchor="middle">{title}</text>')
    for n, (peer, line) in enumerate(points.items()):
        colour = COLOURS.get(peer, '#212529')
        path = ' '.join(f'{px(x):.1f},{py(y):.1f}' for x, y in line)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        parts += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        parts.append(f'<text x="{W - 24 - 90 * n}" y="16" text-anchor="end" fill="{colour}">{peer}</text>')
    return '\n'.join(parts + ['</svg>', ''])


def main():
    folder, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    wanted = sys.argv[3].split(',') if len(sys.argv) > 3 else [name for name, *_ in PLOTS]
    os.makedirs(folder, exist_ok=True)
    for name, scenario, option, values, peers, title, whats in PLOTS:
        if name not in wanted:
            continue
        found = measure(scenario, option, values, peers, rounds)
        for what in whats:
            points = {p: [(x, statistics.median(map(VALUE[what], runs))) for x, runs in line] for p, line in found.items()}
            file = f'{name}-{what.split()[0].lower()}.svg'
            with open(os.path.join(folder, file), 'w') as out:
                out.write(svg(title, what, points))
            for peer, line in points.items():
                print(f'{file}: {peer}: ' + ', '.join(f'{x:,}: {y:.3g}' for x, y in line), flush=True)


main()
