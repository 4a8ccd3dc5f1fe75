-- One bank line beside one ledger entry, in this order:
--   reference       same reference, side and amount
--   amount_differs  same reference and side, what is left of it, in order of size
--   amount_and_date same side and amount, at most two banking days apart, nearest first; only where
--                   the line or the entry carries no reference that could speak against it
{% set partners = 'statement_account, currency, bank_side' %}
{% set line_order = 'value_date, statement_date, statement, line_no' %}
{% set entry_order = 'effective_date, seq, entry_no' %}
with
{% call step('accounts') %}
    select
        statement_account,
        ledger,
        account,
        calendar
    from {{ ref('int_statement_accounts') }}
    where purpose in ('fbo', 'operating')
{% endcall %},

{% call step('lines_0', keep=true) %}
    select
        lines.statement_account,
        lines.statement,
        lines.line_no,
        lines.statement_date,
        lines.value_date,
        lines.side as bank_side,
        lines.amount,
        lines.currency,
        lines.reference,
        days.banking_day_no
    from {{ ref('stg_statement_lines') }} as lines
    inner join {{ ref('int_statements') }} as statements
        on
            lines.statement_account = statements.statement_account
            and lines.statement = statements.statement
            and lines.statement_date = statements.statement_date
    inner join accounts
        on lines.statement_account = accounts.statement_account
    left join {{ ref('int_banking_days') }} as days
        on accounts.calendar = days.calendar and lines.value_date = days.day
{% endcall %},

{% call step('entries_0', keep=true) %}
    select
        accounts.statement_account,
        entries.ledger,
        entries.seq,
        entries.entry_no,
        entries.bank_side,
        entries.amount,
        entries.currency,
        entries.effective_date,
        entries.rail_reference as reference,
        days.banking_day_no
    from {{ ref('int_bank_entries') }} as entries
    inner join accounts
        on entries.ledger = accounts.ledger and entries.account = accounts.account
    left join {{ ref('int_banking_days') }} as days
        on accounts.calendar = days.calendar and entries.effective_date = days.day
{% endcall %},

{# name, the columns that must agree, and what else must hold of lines and of entries #}
{% set steps = [
    ('reference', ['reference', 'amount'], 'reference is not null', 'true', 0),
    ('amount_differs', ['reference'], 'reference is not null', 'true', 0),
] %}
{% for line_condition, entry_condition in [
    ('reference is null', 'true'), ('reference is not null', 'reference is null')
] %}
    {% for days_apart in [0, 1, -1, 2, -2] %}
        {% do steps.append((
            'amount_and_date', ['amount', 'banking_day_no'], line_condition, entry_condition,
            days_apart
        )) %}
    {% endfor %}
{% endfor %}
{% for method, columns, line_condition, entry_condition, days_apart in steps %}
    {% set before, here = loop.index0, loop.index %}
    {% set keys = partners ~ ', ' ~ columns | join(', ') %}
    {% call step('pairs_' ~ here, keep=true) %}
        select
            entries.statement_account,
            entries.ledger,
            entries.seq,
            entries.entry_no,
            lines.statement,
            lines.line_no,
            '{{ method }}' as method
        from (
            select
                *,
                row_number() over (
                    partition by {{ keys }} order by amount, {{ line_order }}
                ) as turn
            from lines_{{ before }}
            where {{ line_condition }}
        ) as lines
        inner join (
            select
                *,
                row_number() over (
                    partition by {{ keys }} order by amount, {{ entry_order }}
                ) as turn
            from entries_{{ before }}
            where {{ entry_condition }}
        ) as entries
            on
                lines.statement_account = entries.statement_account
                and lines.currency = entries.currency
                and lines.bank_side = entries.bank_side
                and lines.turn = entries.turn
                {% for column in columns %}
                    and lines.{{ column }} = entries.{{ column }}
                    {%- if column == 'banking_day_no' %} + ({{ days_apart }}){% endif %}
                {% endfor %}
    {% endcall %},

    {% call step('lines_' ~ here) %}
        select lines_{{ before }}.*
        from lines_{{ before }}
        left join pairs_{{ here }} as pairs
            on
                lines_{{ before }}.statement_account = pairs.statement_account
                and lines_{{ before }}.statement = pairs.statement
                and lines_{{ before }}.line_no = pairs.line_no
        where pairs.seq is null
    {% endcall %},

    {% call step('entries_' ~ here) %}
        select entries_{{ before }}.*
        from entries_{{ before }}
        left join pairs_{{ here }} as pairs
            on
                entries_{{ before }}.statement_account = pairs.statement_account
                and entries_{{ before }}.ledger = pairs.ledger
                and entries_{{ before }}.seq = pairs.seq
                and entries_{{ before }}.entry_no = pairs.entry_no
        where pairs.seq is null
    {% endcall %}{{ ',' if not loop.last }}
{% endfor %}

{% for step in steps %}
    select * from pairs_{{ loop.index }}
    {{ 'union all' if not loop.last }}
{% endfor %}
