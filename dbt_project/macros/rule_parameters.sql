{# A rule's parameters, one row per version, ledger and currency, a column for each name. #}
{% macro rule_parameters(rule, names) -%}
    select
        version,
        ledger,
        currency,
        parameters_hash,
        valid_from,
        valid_to,
        {% for name in names -%}
            max(case when name = '{{ name }}' then value end) as {{ name }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ ref('int_rule_parameters') }}
    where rule = '{{ rule }}'
    group by version, ledger, currency, parameters_hash, valid_from, valid_to
{%- endmacro %}

{# Whether a version of a rule was in force on a day. #}
{% macro in_force(day, parameters='parameters') -%}
    {{ parameters }}.valid_from <= {{ day }}
    and ({{ parameters }}.valid_to is null or {{ day }} < {{ parameters }}.valid_to)
{%- endmacro %}
