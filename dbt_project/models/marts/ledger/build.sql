with seen as (
    select
        ledger as ledger_or_stream,
        max(seq) as as_of_seq
    from {{ ref('stg_ledgers') }}
    group by ledger
    union all
    select
        ledger as ledger_or_stream,
        max(seq) as as_of_seq
    from {{ ref('stg_accounts') }}
    group by ledger
    union all
    select
        ledger as ledger_or_stream,
        max(seq) as as_of_seq
    from {{ ref('transactions') }}
    group by ledger
    union all
    select
        ledger as ledger_or_stream,
        max(last_seq) as as_of_seq
    from {{ ref('holds') }}
    group by ledger
    union all
    select
        ledger as ledger_or_stream,
        max(seq) as as_of_seq
    from {{ ref('stg_periods') }}
    group by ledger
    union all
    select
        stream as ledger_or_stream,
        max(seq) as as_of_seq
    from {{ ref('stg_parties') }}
    group by stream
    union all
    select
        stream as ledger_or_stream,
        max(seq) as as_of_seq
    from {{ ref('stg_statement_accounts') }}
    group by stream
    union all
    select
        stream as ledger_or_stream,
        max(seq) as as_of_seq
    from {{ ref('stg_statements') }}
    group by stream
    union all
    select
        stream as ledger_or_stream,
        max(seq) as as_of_seq
    from {{ ref('stg_statement_lines') }}
    group by stream
)

select
    ledger_or_stream,
    max(as_of_seq) as as_of_seq,
    cast('{{ var("build_at") }}' as timestamp) as built_at,
    '{{ dbt_version }}' as dbt_version,
    '{{ var("code_version") }}' as code_version,
    max(as_of_seq) as last_seq
from seen
group by ledger_or_stream
