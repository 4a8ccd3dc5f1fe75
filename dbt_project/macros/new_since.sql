{# A condition that holds for facts this model hasn't seen: everything on the first build, and then
   each ledger's facts above the highest `last_seq` already here. The limits are written as
   literals, so that the engine can skip what lies before them: in the landing, each source's files;
   in a table, where `facts` names it, what lies before the lowest limit of its ledgers. #}
{% macro new_since(seq='seq', ledger='ledger', facts=none) -%}
    {%- if not is_incremental() -%}
        true
    {%- else -%}
        {%- set seen = run_query(
            'select ledger, max(last_seq) as seq from ' ~ this ~ ' group by ledger order by ledger'
        ) -%}
        {{ past_limits(seen.rows if execute else [], seq, ledger, facts) }}
    {%- endif -%}
{%- endmacro %}

{# A condition that holds past `limits`, rows of a ledger and a `seq`, and for ledgers that have none. #}
{% macro past_limits(limits, seq, ledger='ledger', facts=none) -%}
    {%- if limits | length > 0 -%}
        {%- set names = "'" ~ limits | map(attribute=0) | join("', '") ~ "'" -%}
        {%- set unseen = facts is none or not is_empty(
            'select 1 from ' ~ facts ~ ' where ledger not in (' ~ names ~ ')'
        ) -%}
        (
        {%- if not unseen %}{{ seq }} > {{ limits | map(attribute=1) | min }} and ({% endif -%}
        {%- for row in limits -%}
            ({{ ledger }} = '{{ row[0] }}' and {{ seq }} > {{ row[1] }})
            {{- ' or ' if not loop.last }}
        {%- endfor -%}
        {{ ' or ' ~ ledger ~ ' not in (' ~ names if unseen }}))
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}
