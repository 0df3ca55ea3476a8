#!/usr/bin/env python3
"""Writes golden.json: what transformers makes of templates, for the tests of this package.

    python golden.py > golden.json                      # the templates of this package and the snippets below
    python golden.py --templates DIR > other.json       # every *.jinja in DIR; EXPO_CHAT_GOLDEN=other.json go test .

Written with transformers 5.23.0 and jinja2 3.1.6.
"""
import argparse
import json
import pathlib
import sys

import jinja2
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).resolve().parent

VARS = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Hi, <you> & 'me' \"x\"! "},
        {"role": "assistant", "content": "Grüße 😀\n"},
    ],
    "d": {"b": 1, "a": [1, 2.5, None, True, "x"], "items": {"c": 1.0, "keys": "k"}, "é": "\u001f\u007f\u2028"},
    "words": ["pear", "Apple", "fig", "apple", "Fig"],
    "nums": [3, 1, 2, -7, 10],
    "s": "The quick brown Fox, jumped.",
    "empty": "",
    "none": None,
    "people": [
        {"name": "bob", "age": 3, "city": {"n": "X"}},
        {"name": "Al", "age": 30, "city": {"n": "y"}},
        {"name": "cy", "age": 3, "city": {"n": "x"}},
    ],
    "f": 1.0,
    "big": 1e22,
    "t": True,
}

SNIPPETS = r"""
{{ d }}
{{ d|tojson }}
{{ d|tojson(indent=2) }}
{{ d|tojson(indent=4, sort_keys=true) }}
{{ d|tojson(ensure_ascii=true) }}
{{ d|tojson(separators=(',', ':')) }}
{{ [[], {}, [[]], {'a': {}}]|tojson(indent=1) }}
{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}
{{ {1: 2, 'x': none}[1] }}
{{ d.items() | list }}
{{ d.items is callable }}-{{ d['items'] }}-{{ d['items']['keys'] }}
{{ d['keys'] is defined }}|{{ d.nothing is defined }}
{{ d.b }} {{ d['b'] }} {{ d.get('b') }} {{ d.get('z') }} {{ d.get('z', 3) }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }};{% endfor %}
{{ d.keys() | list }} {{ d.values() | list | length }}
{{ d | dictsort }}
{{ {'B': 2, 'a': 3, 'C': 1} | dictsort }} {{ {'B': 2, 'a': 3} | dictsort(true) }} {{ {'B': 2, 'a': 3} | dictsort(by='value', reverse=true) }}
{{ messages[1].content }}|{{ messages[1].content | trim }}|{{ messages[1]['content'].strip() }}|{{ messages[-1].content.rstrip() }}|
{{ messages[1:] | length }} {{ messages[::-1][0].role }} {{ messages[:-1][-1].role }}
{{ messages[7] is defined }} {{ messages[7] }}
{{ messages[7].content }}
{{ nothing }}|{{ nothing is defined }}|{{ nothing is none }}|{{ nothing or 'x' }}|{{ nothing ~ 'y' }}
{{ nothing.foo }}
{{ nothing['foo'] }}
{{ nothing + 'x' }}
{{ 'x' + nothing }}
{{ nothing == nothing }} {{ nothing == none }} {{ nothing == 1 }} {{ 1 in nothing }}
{{ nothing < 1 }}
{{ nothing() }}
{% for x in nothing %}x{% else %}none{% endfor %}
{% for x in none %}x{% endfor %}
{% for x in 5 %}x{% endfor %}
{{ none }} {{ true }} {{ True }} {{ none is none }} {{ None }} {{ false }}
{{ 1.0 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 1e16 }} {{ 1e15 }} {{ 123456789.123 }} {{ 0.1 + 0.2 }} {{ big }} {{ f }} {{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 0o17 }}
{{ 7 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }} {{ 4 / 2 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ -2 ** 2 }} {{ -1 | abs }} {{ (-1) | abs }} {{ 2 - -1 }} {{ +3 }} {{ -f }} {{ not 1 }} {{ - - 2 }}
{{ 1 + true }} {{ true + true }} {{ true == 1 }} {{ 1 == 1.0 }} {{ '1' == 1 }} {{ [1, 2] == [1, 2.0] }} {{ (1, 2) == [1, 2] }} {{ {'a': 1} == {'a': 1.0} }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ 'Z' < 'a' }} {{ [1, 2] < [1, 3] }} {{ 1 != 2 }} {{ 3 >= 3 }} {{ 3 <= 2 }}
{{ 'a' < 1 }}
{{ none < 1 }}
{{ 'a' ~ 1 ~ none ~ 1.0 ~ [1] ~ true }}
{{ 'a' ~ 1 + 2 }}
{{ 1 ~ 2 * 3 }} {{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ [1] * 2 }} {{ 'x' * -1 }} {{ (1, 2) + (3,) }} {{ [1] + [2] }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + (2,) }}
{{ 'a' in 'abc' }} {{ 1 in [1, 2] }} {{ 'a' in d }} {{ 'z' not in d }} {{ 1.0 in [1] }} {{ '' in 'x' }}
{{ 1 in 'abc' }}
{{ 'a' in none }}
{{ 'a' if t else 'b' }} {{ 'a' if not t }}| {{ 1 if 0 else 2 if 0 else 3 }} {{ ('x' if none) is defined }}
{{ 1 and 2 }} {{ 0 and 2 }} {{ 0 or '' }}| {{ 1 or 2 }} {{ not 0 and 1 }} {{ empty and x.y }}
{{ [1, 'a', none, 1.5, true, [2], {'k': 'v'}, (1,), ()] }}
{{ ['it\'s', "say \"hi\"", 'both \' and "', 'tab\t', 'nl\n', 'b\\s', 'é', '\x01', '\u200b'] }}
{{ "a\tb\x41\u00e9\101\q" }} {{ 'a' 'b' "c" }}
{{ 'abc'[0] }} {{ 'abc'[-1] }} {{ 'abc'[5] }}| {{ 'héllo'[1] }} {{ 'héllo'[1:3] }} {{ 'abcdef'[::2] }} {{ 'abc'[::-1] }} {{ 'abcdef'[4:1:-1] }} {{ 'abc'[-100:100] }} {{ 'abc'[2:1] }}| {{ 'abc'[:1] }}
{{ nums[1:3] }} {{ nums[::-1] }} {{ nums[-2:] }} {{ nums[::2] }} {{ nums[10:] }} {{ nums[:-10] }} {{ nums[3:0:-2] }} {{ (1, 2, 3)[1:] }}
{{ nums['a'] is defined }} {{ nums[1.0] is defined }} {{ nums[true] }} {{ 5[0] is defined }} {{ none.x is defined }} {{ (5).x is defined }}
{{ nums[::0] }}
{{ 'x'.foo is defined }} {{ 'x'.upper is defined }} {{ nums.0 }} {{ people.0.name }} {{ people.1['city'].n }}
{{ words | sort }} {{ words | sort(reverse=true) }} {{ words | sort(case_sensitive=true) }} {{ nums | sort }} {{ people | sort(attribute='age') | map(attribute='name') | list }} {{ people | sort(attribute='age,name') | map(attribute='name') | join(',') }} {{ people | sort(attribute='city.n') | map(attribute='name') | list }}
{{ ['a', 1] | sort }}
{{ words | unique | list }} {{ words | unique(case_sensitive=true) | list }} {{ people | unique(attribute='age') | map(attribute='name') | list }}
{{ nums | max }} {{ nums | min }} {{ words | max }} {{ words | min }} {{ [] | max }}| {{ people | max(attribute='age') }}
{{ nums | sum }} {{ people | sum(attribute='age') }} {{ [1, 2.5] | sum }} {{ [] | sum }} {{ [[1], [2]] | sum(start=[]) }}
{{ nums | join(', ') }} {{ ['a', none, 1] | join }} {{ people | join('/', attribute='name') }} {{ 'abc' | join('-') }} {{ [] | join(',') }}|
{{ nums | first }} {{ nums | last }} {{ 'abc' | first }} {{ 'abc' | last }} {{ [] | first }}| {{ nums | length }} {{ s | length }} {{ d | count }} {{ 'é😀' | length }} {{ nothing | length }}
{{ 5 | length }}
{{ nums | reverse | list }} {{ 'abc' | reverse }} {{ nums | list }} {{ 'abc' | list }} {{ d | list }}
{{ nums | map('abs') | list }} {{ words | map('upper') | join(' ') }} {{ people | map(attribute='zip', default='-') | list }} {{ words | map('replace', 'p', 'q') | list }} {{ people | map(attribute='city') | map(attribute='n') | list }}
{{ nums | select('gt', 1) | list }} {{ nums | select('odd') | list }} {{ nums | reject('even') | list }} {{ [0, 1, '', 'x', none] | select | list }} {{ [0, 1, '', 'x'] | reject | list }} {{ words | select('in', ['fig', 'pear']) | list }}
{{ people | selectattr('age', 'equalto', 3) | map(attribute='name') | list }} {{ people | selectattr('zip', 'defined') | list }} {{ people | rejectattr('age', '>', 3) | list | length }} {{ people | selectattr('city.n', 'eq', 'X') | list | length }} {{ people | selectattr('age') | list | length }}
{{ people | groupby('age') }} {{ people | groupby('city.n') | map('first') | list }}
{% for age, who in people | groupby('age') %}{{ age }}:{{ who | map(attribute='name') | join(',') }};{% endfor %}
{{ nums | batch(2) | list }} {{ nums | batch(2, 'x') | list }} {{ nums | slice(2) | list }} {{ nums | slice(3, 'x') | list }}
{{ 'x' | default('y') }} {{ nothing | default('y') }} {{ nothing | default }}| {{ '' | default('y') }}| {{ '' | default('y', true) }} {{ none | default('y') }} {{ none | d('y', boolean=true) }} {{ nothing.foo | default('z') if nothing else 'q' }}
{{ s | upper }} {{ s | lower }} {{ s | title }} {{ s | capitalize }} {{ s | wordcount }} {{ s | replace('o', '0') }} {{ s | replace('o', '0', 1) }} {{ s | trim('T.') }} {{ s | center(40) }}| {{ 5 | string }} {{ none | string }}
{{ "hello wORLD foo-bar (baz) it's" | title }} {{ "hello wORLD foo-bar it's 3rd".title() }} {{ "hELLO wORLD".capitalize() }} {{ 'ǆ'.title() }}
{{ s | truncate(10) }} {{ s | truncate(10, true) }} {{ s | truncate(10, end='!') }} {{ s | truncate(26) }} {{ s | truncate(26, leeway=0) }}
{{ 'a\nb\n\nc' | indent }} {{ 'a\nb' | indent(2, true) }} {{ 'a\n\nb' | indent(2, blank=true) }} {{ 'a\nb' | indent('>> ') }} {{ '' | indent(first=true) }}|
{{ '12' | int }} {{ '12.7' | int }} {{ 'x' | int }} {{ 'x' | int(-1) }} {{ '0x1f' | int(base=16) }} {{ 3.9 | int }} {{ -3.9 | int }} {{ true | int }} {{ none | int }} {{ ' 5 ' | int }} {{ '1_0' | int }}
{{ '1.5' | float }} {{ 'x' | float }} {{ 'x' | float(2) }} {{ 3 | float }} {{ '1e3' | float }} {{ 'inf' | float }} {{ none | float }}
{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.675 | round(2) }} {{ 2.1 | round(method='ceil') }} {{ 2.19 | round(1, 'floor') }} {{ 5 | round }} {{ -2.5 | round }} {{ 1234.5 | round(-2) }}
{{ '%s is %d' | format('x', 3) }} {{ '%.2f %5d|%-5d|%05d %x %r %%' | format(3.14159, 42, 42, 42, 255, 'q') }} {{ '%s' % 'a' }} {{ '%s-%s' % (1, 2) }} {{ '%(a)s' % {'a': 5} }} {{ '%e %g %g %G' % (12345.678, 0.00001, 1e20, 1e-10) }} {{ '%+d % d %c %o %#x' % (1, 2, 'a', 8, 255) }} {{ '%.3s|' % 'abcdef' }}
{{ '%d' % 'x' }}
{{ '%s %s' % 'x' }}
{{ '%s' % (1, 2) }}
{{ '{} {}'.format(1, 'a') }} {{ '{1} {0}'.format(1, 2) }} {{ '{x} {{}}'.format(x=1) }} {{ '{:>5}|{:<5}|{:^5}|{:*^7}'.format(1, 'a', 'b', 'c') }} {{ '{:.2f} {:05d} {:,} {:x} {:b} {:e} {:%}'.format(3.14159, 42, 1234567, 255, 5, 1234.5, 0.25) }} {{ '{0[a]} {1.x}'.format({'a': 1}, {'x': 2}) }} {{ '{!r}'.format('q') }} {{ '{:+d} {: d} {:#x} {:.3} {:10.3f}|'.format(1, 2, 255, 'abcdef', 2.5) }}
{{ '{}'.format() }}
{{ 'a,b,,c'.split(',') }} {{ ' a  b c '.split() }} {{ 'a b c d'.split(' ', 2) }} {{ ' a  b  c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'abc'.split('b', maxsplit=1) }}
{{ 'a'.split('') }}
{{ 'a\nb\r\nc\n'.splitlines() }} {{ 'a\nb\n'.splitlines(true) }} {{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('x') }} {{ 'abc'.rpartition('x') }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc') }} {{ 'abc'.startswith('b', 1) }} {{ 'abc'.endswith('b', 0, 2) }} {{ ''.startswith('') }}
{{ 'abcabc'.find('c') }} {{ 'abc'.find('x') }} {{ 'abcabc'.rfind('c') }} {{ 'éab'.find('a') }} {{ 'abcabc'.find('a', 1) }} {{ 'abc'.index('b') }} {{ 'banana'.count('an') }} {{ 'banana'.count('a', 2) }} {{ 'aaa'.count('') }}
{{ 'abc'.index('x') }}
{{ 'xxabcxx'.strip('x') }} {{ 'xxabcxx'.lstrip('x') }}| {{ 'xxabcxx'.rstrip('x') }}| {{ '\u00a0\u2003 a\x1f'.strip() }}| {{ ' a '.lstrip() }}| {{ ' a\n'.rstrip() }}| {{ 'abc'.strip('') }} {{ ' x '.strip(none) }}|
{{ 'aXbX'.replace('X', '-') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ 'abc'.replace('', '.') }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('bc') }} {{ 'aBc'.swapcase() }} {{ 'ABC'.lower() }} {{ 'straße'.upper() if 0 else 'x' }} {{ 'a'.zfill(3) }} {{ '-5'.zfill(4) }} {{ 'ab'.center(5) }}| {{ 'ab'.center(5, '*') }} {{ 'abc'.center(6, '*') }} {{ 'a'.ljust(3, '.') }} {{ 'a'.rjust(3) }}
{{ ', '.join(['a', 'b']) }} {{ ''.join([]) }}| {{ '-'.join('abc') }} {{ '/'.join(d) }}
{{ ','.join([1]) }}
{{ '123'.isdigit() }} {{ ''.isdigit() }} {{ 'ab1'.isalnum() }} {{ 'ab'.isalpha() }} {{ ' \n'.isspace() }} {{ 'AB1'.isupper() }} {{ 'ab'.islower() }} {{ '1'.isupper() }} {{ '½'.isnumeric() }} {{ '½'.isdigit() }}
{{ [1, 2, 1].count(1) }} {{ [1, 2].index(2) }} {{ 'x'.join(['a', 'b']) }}
{{ [1].append(2) }}
{{ d.update({'a': 1}) }}
{{ d.pop('a') }}
{{ ''.__class__ }}
{{ nums | string }} {{ nums | safe }} {{ '<b>&"\'' | escape }} {{ '<' | e }} {{ 'a b/ü?' | urlencode }}
{{ 1 is number }} {{ true is number }} {{ 1.5 is float }} {{ true is integer }} {{ 1 is integer }} {{ 'a' is string }} {{ [] is sequence }} {{ 'a' is sequence }} {{ d is mapping }} {{ d is sequence }} {{ d is iterable }} {{ 5 is iterable }} {{ nothing is iterable }} {{ none is sequence }} {{ true is boolean }} {{ range is callable }} {{ 5 is callable }} {{ 'a' is mapping }}
{{ 3 is odd }} {{ 4 is even }} {{ 6 is divisibleby 3 }} {{ 6 is divisibleby(4) }} {{ 'a' is in ['a'] }} {{ 'z' is not in ['a'] }} {{ 3 is gt 2 }} {{ 3 is eq 3.0 }} {{ 3 is sameas 3 }} {{ none is sameas none }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 'upper' is filter }} {{ 'nope' is filter }} {{ 'odd' is test }} {{ 3 is ne 4 }} {{ 3 is lessthan 4 }} {{ 3 is not defined }} {{ x is undefined }}
{{ 1 + 2 is odd }} {{ 'a' ~ 'b' is string }} {{ not x is defined }} {{ x is not defined and 1 }}
{{ 'a' | nope }}
{{ 'a' is nope }}
{{ 'ok' if true else ('a' | nope) }}
{% if false %}{{ 'a' | nope }}{% endif %}ok
{{ range(5) | list }} {{ range(1, 4) | list }} {{ range(5, 0, -2) | list }} {{ range(0) | list }} {{ range(3)[1] }} {% for i in range(2) %}{{ i }}{% endfor %}
{{ range(100001) | list | length }}
{{ range(100000) | list | length }}
{% for x in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}|{% endfor %}
{% for x in nums %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{{ loop.previtem is defined }}{% endfor %}
{% for a in [1, 2] %}{% for b in [3, 4] %}{{ a }}{{ b }}{{ loop.depth }}{{ loop.depth0 }}{{ loop.index }} {% endfor %}{{ loop.index }}{% endfor %}
{% for x in nums if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}none{% endfor %}
{% for x in nums if x > 100 %}{{ x }}{% else %}none{% endfor %}
{% for k, v in d.items() if k != 'a' %}{{ k }}{{ loop.last }}{% endfor %}
{% for a, (b, c) in [(1, (2, 3)), (4, [5, 6])] %}{{ a }}{{ b }}{{ c }};{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for a, b in [1] %}{{ a }}{% endfor %}
{% for x in nums %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in nums %}{% if x < 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}
{% for a in [1, 2] %}{% for b in [1, 2, 3] %}{% if b == 2 %}{% break %}{% endif %}{{ a }}{{ b }} {% endfor %}{% if a == 2 %}{% continue %}{% endif %}x{% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}
{% for i in [1, 2] %}{{ y is defined }}{% set y = i %}{{ y }}{% endfor %}{{ y is defined }}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}
{% set ns = namespace(a=1, b='x') %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}{{ ns['a'] }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }} {{ ns }}
{% set ns = namespace(items=[]) %}{% set ns.items = ns.items + [1] %}{{ ns.items }}
{% set x = {} %}{% set x.a = 1 %}
{% set ns = namespace(_a=1) %}
{% set ns = namespace() %}{% set ns._a = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}
{% set a = 1, 2 %}{{ a }} {% set b = (1,) %}{{ b }} {{ 1, 2 }}
{% set x %}a{{ 1 }}b{% endset %}{{ x }}{{ x | length }}
{% set x | upper | replace('A', 'x') %}ab{{ 'c' }}{% endset %}{{ x }}
{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ y is defined }}
{% filter upper %}abc {{ 'def' }}{% endfilter %}
{% filter replace('a', 'b') | upper %}aXa{% endfilter %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}
{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% set c = 3 %}{% endwith %}{{ a }}{{ c is defined }}
{% macro m(a, b=2, c='z') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c='y') }}{{ m(b=1, a=2) }}{{ m() }}
{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(1) }}{{ m(nothing) }}{{ m(1, nothing) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m() %}{{ caller() }}-{{ caller() }}{% endmacro %}{% call m() %}x{% endcall %}
{% macro m(n) %}{% for i in range(n) %}{{ caller(i, i * i) }};{% endfor %}{% endmacro %}{% call(a, b) m(3) %}{{ a }}:{{ b }}{% endcall %}
{% macro fact(n) %}{% if n > 0 %}{{ n }}{{ fact(n - 1) }}{% endif %}{% endmacro %}{{ fact(5) }}
{% macro m(x) %}{% set y = x %}{{ y }}{% endmacro %}{{ m(1) }}{{ y is defined }}{{ m(m(2)) }} {{ m }}
{% set y = 1 %}{% macro m() %}{{ y }}{% endmacro %}{% set y = 2 %}{{ m() }}
{% macro m(a) %}{{ a | join(',') }}{% endmacro %}{{ m(*[[1, 2]]) }}{{ m(**{'a': 'xy'}) }}
{{ dict(a=1, b=2) }} {{ dict({'x': 1}, y=2) }} {{ dict([('k', 'v')]) }} {{ dict() }}
{% set j = joiner(', ') %}{% for x in [1, 2, 3] %}{{ j() }}{{ x }}{% endfor %}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}
{% set it = nums | select %}{{ it | list }}{{ it | list }} {{ 'y' if [] | select else 'n' }} {{ it is iterable }} {{ it is sequence }} {{ it is callable }} {{ (nums | reverse | list)[0] }} {% for x in nums | reverse %}{{ loop.length }}{{ x }} {% endfor %}{{ 1 in nums | select }} {{ d | items | list | length }} {{ (nums | select)[0] is defined }}
{{ nums | select | tojson }}
{{ nums | select | length }}
{{ nums | reverse | last }}
{{ (nums | select)() }}
{{ raise_exception('stop: ' ~ 1) }}
{{ raise_exception() }}
{% raw %}{{ x }} {% if %}{% endraw %}|{%- raw -%}  {# a #}  {%- endraw -%}  |
a{# comment {{ x }} #}b{#- c -#}  d
{% generation %}a{{ 1 }}{% set z = 1 %}{% endgeneration %}{{ z is defined }}
{% block title %}x{% endblock %}{% block b %}y{% endblock b %}
{% print 1, 'a' %}
{{ "{{ x }}" }}{{ '%}' }}{% set x = "{% y %}" %}{{ x }}
{{ 1 }}{{- 2 -}} 3 {{- 4 }} 5
{{ {'a': {'b': {}}} }}{{ {} }}{{ {'a': 1,} }}{{ [1,] }}
{% if d.b == 1 and 'a' in d and not nothing %}yes{% elif 1 %}no{% else %}never{% endif %}
{% if 0 %}a{% elif 0 %}b{% else %}c{% endif %}
{{ x.y.z }}
{{ d.b.c.d }}
{{ ('x' if (1 is defined) if 0 else 1) }} {{ none | map('upper') | list }} {{ none | select | list }} {{ [].append is defined }}
{{ 'a<' | safe + '<b' }} {{ '<b' + 'a<' | safe }} {{ ('<' | e) ~ '<' }} {{ ['<' | e] }} {{ ('<' | safe) | length }} {{ ('<' | safe) == '<' }} {{ ('<' | safe) is string }} {{ ('' | safe) or 'x' }}
{{ s[4:9] ~ s[-7:] }} {{ s.split()[1:] | join('_') }} {{ s.split(' ')[0][::-1] }}
{{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first }} {{ (messages | last).role }} {{ messages | tojson }}
{{ 'a' if 'b' is defined else 'c' }} {{ 1 if x is defined and x else 2 }}
{{ none + 1 }}
{{ {} + {} }}
{{ -'a' }}
{{ {[]: 1} }}
{{ [nothing] | tojson }}
{{ nums[1:](2) }}
{{ f[1:] }}
{{ d[1:] }}
{{ nothing[1:] }}
{{ f | indent }}
{{ [] in d }}
{{ nothing in d }}
{{ nothing | attr('a') }}
{{ 1 2 }}
{{ }}
{% for x in %}{% endfor %}
{% if %}{% endif %}
{% endif %}
{% if 1 %}
{{ 'abc }}
{{ x
{# x
{% foo %}
{% break %}
{{ a.b( }}
{{ (1 }}
{{ 1 ? 2 }}
{% set 1 = 2 %}
{% set x = %}
{% include 'x' %}
{% macro m(a=1, b) %}{% endmacro %}
{{ f(a=1, 2) }}
{{ x is }}
{{ 3 is odd is true }}
{{ s | upper | lower | title | length }} {{ (s | upper).lower() }} {{ s.upper() | lower }}
{{ '€uroßﬂ'.upper() }} {{ [5] | min(attribute='x') }} {{ nothing is callable }} {{ '' % [1] }} {{ 'ÀB'.lower() }} {{ 'ß' | capitalize if 0 }} {{ 'żółw'.capitalize() }}
{{ nums | tojson }} {{ none | tojson }} {{ 'a"b\\c/é\u2028<>&\'' | tojson }} {{ 1.0 | tojson }} {{ 1e100 | tojson }} {{ true | tojson }}
{{ [1, 2] | tojson(indent='--') }} {{ {'a': [1, {'b': 2}]} | tojson(indent=0) }}
"""

WHITESPACE = [
    "a\n  {% if true %}\n    b\n  {% endif %}\nc\n",
    "a\n  {%- if true %}\n    b\n  {%- endif %}\nc\n\n",
    "a\n  {%+ if true %}\n    b\n  {%+ endif +%}\nc\n",
    "  {{ 1 }}\n  {{- 2 }}\n  {{ 3 -}}\n  4",
    "  {# c #}\n x {# d #}\n\t{# e -#}\n\n y {#- f #}\n z",
    "{% for x in [1, 2] %}\n  {{ x }}\n{% endfor %}\n{% for x in [1, 2] -%}\n  {{ x }}\n{%- endfor %}\n",
    "{% if true %}x{% endif %}\n\ny {% if true %} z {% endif %} w\n",
    "a\r\n{% if true %}\r\n b\r\n{% endif %}\r\nc\rd\r\n",
    "  {% set x = 1 %}  \n  {{ x }}  \n",
    "{% raw %}\n  a {{ b }}\n  {% endraw %}\n c",
    "  {%- raw %}\n  a\n  {%- endraw -%}\n\n c",
    "x{% if true %} \n{% endif %}y",
    "\n\n{% if true %}\n\n{% endif %}\n\n",
    "{{ 'a' }}\n{% if true %}\n{{ 'b' }}\n{% endif %}",
    " \t{% if true %}a{% endif %}\v\f {% if true %}b{% endif %}",
    "{% set x %}\n  a\n{% endset %}\n[{{ x }}]",
    "{% macro m() %}\n  a\n{% endmacro %}\n[{{ m() }}]",
    "{%if true%}a{%endif%}{%- if true -%} b {%- endif -%} c",
    "a {#- x -#} b\n{#+ y +#}\nc",
    "\u00a0{% if true %}a{% endif %}\n\u2003{%- if true %}b{% endif %}",
]

CONVERSATIONS = {
    "user": [{"role": "user", "content": "What is 2 + 2?"}],
    "spaces": [{"role": "user", "content": "  padded \n"}],
    "turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": " Hello! "},
        {"role": "user", "content": "A \"joke\",\ntwo lines 😀."},
    ],
    "system": [{"role": "system", "content": "Be terse. "}, {"role": "user", "content": "Q"}],
    "answered": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
        {"role": "assistant", "content": "A2 "},
    ],
    "order": [{"role": "assistant", "content": "A"}, {"role": "user", "content": "Q"}],
    "odd": [{"role": "narrator", "content": "x"}],
    "tool": [
        {"role": "user", "content": "Weather in Rome?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "abcdef123",
                    "type": "function",
                    "function": {"name": "weather", "arguments": {"city": "Rome", "days": 2, "f": 1.0}},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "abcdef123", "name": "weather", "content": "{\"t\": 20}"},
        {"role": "assistant", "content": "20 degrees."},
        {"role": "user", "content": "Thanks"},
    ],
    "reasoning": [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "reasoning": "Hm.", "content": "<think>\nHm.\n</think>\nA"},
        {"role": "user", "content": "R"},
    ],
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <today> & later",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where", "enum": ["Rome", "Köln"]},
                    "days": {"type": "integer", "default": 1, "items": {"type": "string"}},
                },
                "required": ["city"],
            },
        },
    }
]

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def outcome(render):
    try:
        return {"text": render()}
    except jinja2.TemplateSyntaxError as e:
        return {"error": "syntax"}
    except Exception as e:
        if type(e) is jinja2.TemplateError:
            return {"error": "raised", "message": str(e)}
        return {"error": type(e).__name__}


def tokenizer():
    vocab = {t: i for i, t in enumerate(SPECIAL.values())}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="<unk>")), **SPECIAL)


def snippet(source):
    return outcome(lambda: chat_template_utils._compile_jinja_template(source).render(**VARS))


def conversations(source, tok, names, date=None):
    cases = []
    for name in names:
        messages = CONVERSATIONS[name]
        for prompt in (False, True):
            for tools in (None, TOOLS):
                if tools and name not in ("user", "system", "tool") or tools and not date:
                    continue
                kwargs = {"tools": tools, "add_generation_prompt": prompt, "tokenize": False}
                if date:
                    kwargs["date_string"] = date
                case = {"conversation": name, "prompt": prompt, "tools": bool(tools)}
                case.update(outcome(lambda: tok.apply_chat_template(messages, chat_template=source, **kwargs)))
                cases.append(case)
        if name in ("answered", "turns"):
            case = {"conversation": name, "continue": True}
            case.update(
                outcome(
                    lambda: tok.apply_chat_template(
                        messages,
                        chat_template=source,
                        tokenize=False,
                        continue_final_message=True,
                        **({"date_string": date} if date else {}),
                    )
                )
            )
            cases.append(case)
    return cases


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--templates", type=pathlib.Path)
    args = parser.parse_args()
    tok = tokenizer()
    out = {
        "generator": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "variables": VARS,
        "special": SPECIAL,
        "conversations": CONVERSATIONS,
        "tools": TOOLS,
        "snippets": [],
        "templates": [],
    }
    if args.templates:
        for path in sorted(args.templates.glob("*.jinja")):
            source = path.read_text()
            out["templates"].append(
                {"name": path.stem, "source": source, "cases": conversations(source, tok, CONVERSATIONS, "26 Jul 2024")}
            )
    else:
        for source in SNIPPETS.strip().split("\n") + WHITESPACE:
            out["snippets"].append({"source": source, **snippet(source)})
        few = ("user", "turns", "answered", "order", "odd")
        for path in sorted((HERE.parent / "templates").glob("*.jinja")):
            out["templates"].append({"name": path.stem, "cases": conversations(path.read_text(), tok, few)})
    json.dump(out, sys.stdout, ensure_ascii=False, indent=None, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
