with versions as (
    select
        party,
        kind,
        country,
        risk_tier,
        version,
        erased,
        seq,
        row_number() over (partition by party order by version desc, seq desc) as age
    from {{ ref('stg_parties') }}
)

select
    party,
    kind,
    country,
    risk_tier,
    version,
    erased,
    seq as last_seq
from versions
where age = 1
